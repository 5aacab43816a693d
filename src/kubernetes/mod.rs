//! The Kubernetes API: reads, watches and writes objects.
//!
//! No step needs the API: each use has a fallback for an executor without access. Only
//! `serve --cluster` needs it. This folder knows the client and the core objects. The types of Argo
//! are in [`crate::argo`].

mod authority_file;
mod client;
mod config_map;
mod error;
mod kubeconfig;
mod names;
mod request;
mod resource;
mod secrets;
mod send;
mod transport;
mod watch;
mod write;

pub use client::Kubernetes;
pub use config_map::ConfigMap;
pub use error::{KubernetesError, ObjectName};
pub use names::is_dns_subdomain;
pub use request::ApiError;
pub use resource::{Metadata, OwnerReference, Resource, Stored, Version};
pub use secrets::{NotBase64, PullSecrets, Secret};
pub use watch::{Listed, Removed, Selection, WatchEvent};
