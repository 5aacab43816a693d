//! Artifacts in a template: where their content is, or is to be.

use artifacts::Location;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::convert::Placement;
use crate::document::DocumentError;
use crate::step::Content;

/// An artifact as Argo writes it, with the one location that it may have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Where the guest sees it, or leaves it.
    pub path: Option<String>,
    /// Whether it may be missing.
    #[serde(default)]
    pub optional: Option<bool>,
    /// How it is packed; nothing means a gzipped tar for outputs.
    pub archive: Option<Value>,
    /// The name it is exported under, if it is.
    pub global_name: Option<String>,
    /// Kept and given back.
    #[serde(rename = "artifactGC")]
    pub artifact_gc: Option<Value>,
    raw: Option<Raw>,
    s3: Option<Bucket>,
    http: Option<Value>,
    git: Option<Value>,
    gcs: Option<Value>,
    azure: Option<Value>,
    oss: Option<Value>,
    hdfs: Option<Value>,
    artifactory: Option<Value>,
    plugin: Option<Value>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct Raw {
    data: String,
}

/// `s3`. With a key alone, the content is in the default repository, whatever that is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct Bucket {
    key: Option<String>,
    bucket: Option<String>,
    endpoint: Option<String>,
}

impl Artifact {
    /// Where an input's content is; `None` for an optional one that was not supplied.
    pub(super) fn content(&self, at: &str, placement: &Placement) -> Result<Option<Content>, DocumentError> {
        self.check_supported(at)?;
        let key = self.key(at)?;
        if self.raw.is_none() && key.is_some() {
            self.check_archive(at)?;
        }
        let raw = self.raw.as_ref().map(|raw| Content::Raw(raw.data.clone()));
        if let Some(supplied) = &placement.supplied {
            return Ok(supplied.get(&self.name).cloned().map(Content::Stored).or(raw));
        }
        match (raw, key) {
            (Some(raw), _) => Ok(Some(raw)),
            (None, Some(key)) => Ok(Some(Content::Stored(Location { repository: placement.repository(at)?, key }))),
            (None, None) => Ok(None),
        }
    }

    /// Where an output goes: under its own key, or under one of this execution's.
    pub(super) fn location(&self, at: &str, placement: &Placement) -> Result<Location, DocumentError> {
        let repository = placement.repository(at)?;
        let own = format!("{}{}", placement.key_prefix, self.name);
        self.check_supported(at)?;
        self.check_archive(at)?;
        let key = self.key(at)?.filter(|_| placement.supplied.is_none());
        Ok(Location { repository, key: key.unwrap_or(own) })
    }

    fn check_archive(&self, at: &str) -> Result<(), DocumentError> {
        if self.archive.as_ref().is_some_and(|archive| archive.get("none").is_some()) {
            return Ok(());
        }
        let message = "archives are not supported by this version; add `archive: {none: {}}`";
        Err(DocumentError::new(format!("{at}.archive"), message))
    }

    fn key(&self, at: &str) -> Result<Option<String>, DocumentError> {
        match &self.s3 {
            Some(Bucket { bucket, endpoint, .. }) if bucket.is_some() || endpoint.is_some() => Err(DocumentError::new(
                format!("{at}.s3"),
                "buckets are not supported by this version; give a key alone, for the executor's own repository",
            )),
            Some(bucket) => Ok(bucket.key.clone().filter(|key| !key.is_empty())),
            None => Ok(None),
        }
    }

    fn check_supported(&self, at: &str) -> Result<(), DocumentError> {
        let kinds = [
            ("http", &self.http),
            ("git", &self.git),
            ("gcs", &self.gcs),
            ("azure", &self.azure),
            ("oss", &self.oss),
            ("hdfs", &self.hdfs),
            ("artifactory", &self.artifactory),
            ("plugin", &self.plugin),
        ];
        match kinds.into_iter().find(|(_, value)| value.is_some()) {
            Some((kind, _)) => {
                let message =
                    format!("artifacts of the kind `{kind}` are not supported; use `raw`, or `s3` with a key");
                Err(DocumentError::new(at, message))
            }
            None => Ok(()),
        }
    }
}
