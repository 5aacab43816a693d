//! The key `pull`: when and with which credentials the module is fetched.

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret_name::SecretName;

/// `pull`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::argo) struct Pull {
    /// When the executor asks the module's origin for the digest. Default: `Always` for the tag
    /// `latest` and for a reference without a tag, otherwise `IfNotPresent`.
    pub(in crate::argo) policy: Option<PullPolicy>,
    /// Secrets in the workflow's namespace with credentials for the module's origin.
    pub(super) secrets: Vec<SecretName>,
}

/// `pull.policy`, with the values of Kubernetes' `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(in crate::argo) enum PullPolicy {
    /// Ask the origin once for each workflow.
    Always,
    /// Ask the origin only if the reference is not in the store.
    IfNotPresent,
    /// Use only the store.
    Never,
}

impl From<PullPolicy> for sources::PullPolicy {
    fn from(policy: PullPolicy) -> Self {
        match policy {
            PullPolicy::Always => Self::Always,
            PullPolicy::IfNotPresent => Self::IfNotPresent,
            PullPolicy::Never => Self::Never,
        }
    }
}
