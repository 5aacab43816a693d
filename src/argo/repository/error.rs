//! Errors of the search for a workflow's artifact repository.

use std::sync::Arc;

use crate::kubernetes::KubernetesError;

/// Why the artifact repository of a workflow is not known, although the workflow may have one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The Kubernetes API did not answer.
    #[error("the workflow's artifact repository is not known: {0}")]
    Unavailable(#[source] Arc<KubernetesError>),
    /// The object that `spec.artifactRepositoryRef` names was not found.
    #[error(
        "the workflow's artifact repository is not known: `spec.artifactRepositoryRef` names \
         key `{key}` of ConfigMap `{config_map}`, which does not exist or may not be read"
    )]
    NotFound {
        /// Name of the `ConfigMap`.
        config_map: String,
        /// Key in the `ConfigMap`.
        key: String,
    },
    /// The repository is written down, but cannot be parsed.
    #[error("the workflow's artifact repository is not known: {origin}: {message}")]
    Malformed {
        /// Object or field with the repository.
        origin: String,
        /// Message of the parser.
        message: String,
    },
    /// The repository cannot be used, such as one of a kind that is not supported.
    #[error("{}", .0.describe())]
    Unusable(#[source] Arc<artifacts::Error>),
}

impl From<KubernetesError> for RepositoryError {
    fn from(error: KubernetesError) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

impl From<artifacts::Error> for RepositoryError {
    fn from(error: artifacts::Error) -> Self {
        Self::Unusable(Arc::new(error))
    }
}
