//! The Kubernetes API: reads single objects.
//!
//! No step needs the API: each use has a fallback for an executor without access. This folder knows
//! the client and the core objects. The types of Argo are in [`crate::argo::workflow`].

mod authority_file;
mod client;
mod config_map;
mod error;
mod kubeconfig;
mod names;
mod resource;
mod secrets;
mod transport;

pub use client::Kubernetes;
pub use config_map::ConfigMap;
pub use error::{KubernetesError, ObjectName};
pub use names::is_dns_subdomain;
pub use resource::{Metadata, Resource};
pub use secrets::{NotBase64, PullSecrets, Secret};
