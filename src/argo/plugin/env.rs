//! The key `env`: environment variables of the module.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::text::DocumentError;

/// `env[]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::argo) struct EnvVar {
    /// Name of the variable.
    name: String,
    /// Value of the variable. Default: empty.
    value: Option<String>,
    /// A value from a Secret or `ConfigMap`. Not supported by this version.
    value_from: Option<Value>,
}

impl EnvVar {
    /// Name and value of the variable, if a variable can have them. `at` is the path of the map.
    pub(super) fn checked(&self, at: &str) -> Result<(String, String), DocumentError> {
        if self.name.is_empty() || self.name.contains(['=', '\0']) {
            return Err(DocumentError::new(
                at,
                format!("`{}` cannot be a variable's name", self.name),
            ));
        }
        if self.value_from.is_some() {
            return Err(DocumentError::new(
                format!("{at}.valueFrom"),
                "not supported by this version; use `value`",
            )
            .with_hint(
                "for a ConfigMap, use `valueFrom.configMapKeyRef` in an input parameter of the \
                 template, and `value: \"{{inputs.parameters.NAME}}\"` here",
            ));
        }
        Ok((self.name.clone(), self.value.clone().unwrap_or_default()))
    }
}
