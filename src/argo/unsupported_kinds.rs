//! Kinds of artifact locations that Argo has, and this program does not support.

use artifacts::repository::alternative_to;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::text::DocumentError;

/// The locations of other kinds that an artifact may name. Each of them is an error.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct UnsupportedKinds {
    /// Not supported. Use `http` with the archive that the Git server makes of a revision.
    git: Option<Value>,
    /// Not supported. Use `s3` with the endpoint storage.googleapis.com.
    gcs: Option<Value>,
    /// Not supported. Use `http` with a shared access signature.
    azure: Option<Value>,
    /// Not supported. Use `s3` with the endpoint of the service.
    oss: Option<Value>,
    /// Not supported. Use `http` with `WebHDFS`.
    hdfs: Option<Value>,
    /// Not supported. Use `http` with `auth.basicAuth`.
    artifactory: Option<Value>,
    /// Not supported. Use `s3`, `http` or `raw`.
    plugin: Option<Value>,
}

impl UnsupportedKinds {
    /// Refuses a location of an unsupported kind. The error names an alternative.
    pub(super) fn check(&self, at: &str) -> Result<(), DocumentError> {
        let kinds = [
            ("git", &self.git),
            ("gcs", &self.gcs),
            ("azure", &self.azure),
            ("oss", &self.oss),
            ("hdfs", &self.hdfs),
            ("artifactory", &self.artifactory),
            ("plugin", &self.plugin),
        ];
        match kinds.into_iter().find(|(_, location)| location.is_some()) {
            Some((kind, _)) => Err(DocumentError::new(
                at,
                format!(
                    "artifacts of the kind `{kind}` are not supported; {}",
                    alternative_to(kind)
                ),
            )),
            None => Ok(()),
        }
    }
}
