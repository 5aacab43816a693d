//! `manifest`: the Kubernetes objects that install the plugin.
//!
//! `values` parses the flags, `command` fills in the manifests of `plugin/`, and `warnings` names
//! everything that the configuration needs and the manifests do not contain.

mod command;
mod values;
mod warnings;

pub(super) use command::Manifest;
