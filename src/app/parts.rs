//! Makes single parts of the program from the configuration.

use std::path::Path;
use std::sync::Arc;

use artifacts::{OperatorBucket, Stores};
use sources::Sources;
use sources::source::SharedProgress;

use super::artifact_host::Host;
use super::credentials::Credentials;
use super::directories::Directories;
use super::error::AppError;
use crate::config::{Config, NamespaceRules};
use crate::kubernetes::Kubernetes;

/// Access to the Kubernetes API: from a kubeconfig file, or as the pod's service account. `None`
/// outside a cluster.
pub fn kubernetes(kubeconfig: Option<&Path>) -> Result<Option<Kubernetes>, AppError> {
    match kubeconfig {
        Some(file) => Kubernetes::from_kubeconfig(file)
            .map(Some)
            .map_err(AppError::Kubeconfig),
        None => Kubernetes::in_cluster().map_err(AppError::Kubernetes),
    }
}

/// The sources of modules, over the store in the cache directory.
///
/// `local` is the mode for a developer's own machine: all files and the user's own logins may be
/// used.
pub fn sources(
    config: &Config,
    directories: &Directories,
    kubernetes: Option<Kubernetes>,
    local: bool,
    progress: SharedProgress,
) -> Result<Sources, AppError> {
    let credentials = Credentials::load(&config.sources.credentials, kubernetes, local)?;
    let sources = Sources::new(
        &config.sources.library(&config.namespaces),
        directories.store(config),
        credentials,
        local,
        progress,
    )?;
    Ok(sources)
}

/// The artifact stores. The store of the operator's own repository may be on this machine.
pub fn stores(config: &Config, kubernetes: Option<Kubernetes>) -> Stores {
    let own = config
        .artifacts
        .repository
        .as_ref()
        .and_then(|repository| repository.s3.as_ref());
    let own = own.map(|s3| OperatorBucket {
        endpoint: s3.endpoint.clone(),
        bucket: s3.bucket.clone(),
    });
    let machine = config
        .sources
        .insecure
        .iter()
        .cloned()
        .chain(own.iter().map(|own| own.endpoint.clone()));
    let rules = NamespaceRules::new(config);
    let host = Host::new(kubernetes, machine, config.sources.ca.clone(), rules);
    Stores::new(Arc::new(host), own)
}
