//! The name of a Secret in the workflow's namespace.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::kubernetes::is_dns_subdomain;
use crate::text::DocumentError;

/// Longest part of an invalid name in an error, in characters.
const MAX_SHOWN: usize = 80;

/// A map with the name of a Secret, as in `imagePullSecrets` of Kubernetes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretName {
    /// Name of the Secret.
    name: String,
}

impl SecretName {
    /// The name, if a Secret can have it. `at` is the path of the map.
    pub(super) fn checked(&self, at: &str) -> Result<String, DocumentError> {
        if is_dns_subdomain(&self.name) {
            return Ok(self.name.clone());
        }
        let shown: String = self.name.chars().take(MAX_SHOWN).collect();
        Err(DocumentError::new(
            format!("{at}.name"),
            format!("`{shown}` cannot be a Secret's name"),
        ))
    }
}
