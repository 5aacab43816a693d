//! Errors of the Kubernetes API.

use std::fmt;

/// Kind, namespace and name of an object, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Kind of the object, such as `Secret`.
    pub kind: &'static str,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} `{}` of namespace `{}`",
            self.kind, self.name, self.namespace
        )
    }
}

/// Why an object could not be read. The message never contains content of the object.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The client cannot be set up.
    #[error("the Kubernetes API cannot be used: {0}")]
    Unusable(String),
    /// The object does not exist.
    #[error("there is no {0}")]
    NotFound(ObjectName),
    /// The service account may not read the object.
    #[error("{0} may not be read: the service account needs the verb `get` for it")]
    Forbidden(ObjectName),
    /// The namespace's own service account may not read the object, or the executor may not act as
    /// that account.
    #[error(
        "{object} may not be read: the service account `{account}` of namespace `{}` needs the verb \
         `get` for it, and the executor needs the verb `impersonate` for that account",
        object.namespace
    )]
    ForbiddenForTenant {
        /// Name of the service account.
        account: String,
        /// The object.
        object: ObjectName,
    },
    /// The API does not answer, or answers with an error.
    #[error("{object} could not be read: {cause}")]
    Unavailable {
        /// The object.
        object: ObjectName,
        /// Error of the client, or a timeout.
        cause: String,
    },
    /// The answer is not an object of this kind.
    #[error("{object} cannot be parsed: {cause}")]
    Malformed {
        /// The object.
        object: ObjectName,
        /// Path and types of the malformed field, without its value.
        cause: go_json::Error,
    },
}
