//! The section `artifacts`: where artifacts are stored.

use artifacts::ArtifactRepository;
use serde::{Deserialize, Serialize};

/// `artifacts`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Artifacts {
    /// Repository for artifacts without a complete location, if the workflow has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<ArtifactRepository>,
    /// Namespace of Argo's controller. The executor reads the controller's `ConfigMap`s last, and
    /// only if it may read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_namespace: Option<String>,
}
