//! Manifests and indexes, checked before anything in them is used.
//!
//! Formats: <https://github.com/opencontainers/image-spec/blob/main/manifest.md> and `image-index.md` beside it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Digest, Error, ErrorKind, Part};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What to ask a registry for.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    OCI_MANIFEST,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Those of them that are indexes.
const INDEX_TYPES: [&str; 2] = [MANIFEST_TYPES[2], MANIFEST_TYPES[3]];

/// More layers or children than that make no sense.
const MAX_ENTRIES: usize = 512;

/// A document that a registry keeps as a manifest.
#[derive(Debug)]
pub(super) enum Document {
    /// One image or artifact.
    Manifest(Manifest),
    /// Several, for different platforms.
    Index(Vec<Descriptor>),
}

/// An image or artifact.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) artifact_type: String,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
}

/// What a document says of a blob or another document. `urls` is left out on purpose: a manifest must not send us elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) platform: Option<Platform>,
    /// In an index, what kind of artifact it is.
    pub(super) artifact_type: String,
}

/// `platform` of a child of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
    #[serde(default)]
    artifact_type: String,
}

impl RawDocument {
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Protocol, "the registry's manifest is not one").caused_by(error)
        })
    }
}

impl Document {
    /// Reads what was sent as `content_type`: two names for one document would be two documents to some.
    pub(super) fn parse_as(bytes: &[u8], content_type: Option<&str>) -> Result<Self, Error> {
        let raw = RawDocument::parse(bytes)?;
        let sent = content_type
            .and_then(|sent| sent.split(';').next())
            .map(str::trim);
        if let (Some(sent), Some(said)) = (
            sent.filter(|sent| MANIFEST_TYPES.contains(sent)),
            &raw.media_type,
        ) && sent != said
        {
            let said: String = said.chars().take(100).collect();
            let message = format!(
                "the registry sends the manifest as `{sent}`, and it says that it is `{said}`"
            );
            return Err(Error::new(ErrorKind::Protocol, message));
        }
        Self::of(raw)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        RawDocument::parse(bytes).and_then(Self::of)
    }

    fn of(raw: RawDocument) -> Result<Self, Error> {
        if raw.schema_version != 2 {
            let version = raw.schema_version;
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("manifests of schema version {version} are not supported"),
            ));
        }
        if let Some(said) = raw
            .media_type
            .as_deref()
            .filter(|said| MANIFEST_TYPES.contains(said))
            && INDEX_TYPES.contains(&said) != raw.manifests.is_some()
        {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the manifest says that it is `{said}`, and is not"),
            ));
        }
        match (raw.manifests, raw.layers, raw.config) {
            // CVE-2021-41190: one document, read as an index by one and as an image by another.
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(Error::new(
                ErrorKind::Protocol,
                "the manifest claims to be an index and an image at once",
            )),
            (Some(children), None, None) => descriptors(children).map(Self::Index),
            (None, layers, config) => Ok(Self::Manifest(Manifest {
                artifact_type: raw.artifact_type.unwrap_or_default(),
                config: config.map(Descriptor::try_from).transpose()?,
                layers: descriptors(layers.unwrap_or_default())?,
            })),
        }
    }
}

fn descriptors(raw: Vec<RawDescriptor>) -> Result<Vec<Descriptor>, Error> {
    if raw.len() > MAX_ENTRIES {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the manifest has more than {MAX_ENTRIES} entries"),
        ));
    }
    raw.into_iter().map(TryFrom::try_from).collect()
}

impl TryFrom<RawDescriptor> for Descriptor {
    type Error = Error;

    fn try_from(raw: RawDescriptor) -> Result<Self, Error> {
        let digest: Digest = raw.digest.parse().map_err(|error| {
            Error::new(
                ErrorKind::Protocol,
                "the manifest names a blob by a malformed digest",
            )
            .caused_by(error)
        })?;
        let size = u64::try_from(raw.size).map_err(|_| {
            Error::new(
                ErrorKind::Protocol,
                format!("the manifest says that `{digest}` has {} bytes", raw.size),
            )
        })?;
        let annotations = raw.annotations.unwrap_or_default();
        let platform = raw.platform;
        Ok(Self {
            media_type: raw.media_type,
            digest,
            size,
            annotations,
            platform,
            artifact_type: raw.artifact_type,
        })
    }
}

impl Descriptor {
    /// The file name that most tools note.
    pub(super) fn title(&self) -> Option<&str> {
        self.annotations
            .get("org.opencontainers.image.title")
            .map(String::as_str)
    }

    pub(super) fn part(&self) -> Part {
        Part {
            digest: self.digest.clone(),
            size: Some(self.size),
            media_type: Some(self.media_type.clone()),
        }
    }
}

impl Manifest {
    pub(super) fn config_type(&self) -> &str {
        self.config.as_ref().map_or("", |config| &config.media_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn kind(text: &str) -> ErrorKind {
        Document::parse(text.replace("DIGEST", DIGEST).as_bytes())
            .unwrap_err()
            .kind()
    }

    #[test]
    fn tells_manifests_from_indexes() {
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{DIGEST}","size":1,"platform":{{"os":"wasip1","architecture":"wasm","variant":"x"}}}}]}}"#
        );
        let Document::Index(children) = Document::parse(index.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!(children[0].platform.as_ref().unwrap().os, "wasip1");
        let oci = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;
        assert!(
            Document::parse_as(oci, Some(OCI_MANIFEST)).is_ok()
                && Document::parse_as(oci, Some("text/plain")).is_ok()
        );
        let error = Document::parse_as(oci, Some(INDEX_TYPES[0])).unwrap_err();
        assert!(
            error.to_string().contains("sends the manifest as"),
            "{error}"
        );
        let manifest = Document::parse(br#"{"schemaVersion":2}"#).unwrap();
        assert!(matches!(manifest, Document::Manifest(manifest) if manifest.layers.is_empty()));
    }

    #[test]
    fn refuses_confusion_and_nonsense() {
        assert_eq!(
            kind(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(r#"{"schemaVersion":2,"manifests":[],"config":{"digest":"DIGEST","size":1}}"#),
            ErrorKind::Protocol
        );
        assert_eq!(kind(r#"{"schemaVersion":1}"#), ErrorKind::Unsupported);
        assert_eq!(kind("<html>"), ErrorKind::Protocol);
        assert_eq!(
            kind(r#"{"schemaVersion":2,"layers":[{"digest":"sha256:../../x","size":1}]}"#),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(r#"{"schemaVersion":2,"layers":[{"digest":"DIGEST","size":-1}]}"#),
            ErrorKind::Protocol
        );
        let many = format!(
            r#"{{"schemaVersion":2,"layers":[{}{{"digest":"DIGEST","size":1}}]}}"#,
            r#"{"digest":"DIGEST","size":1},"#.repeat(600)
        );
        assert_eq!(kind(&many), ErrorKind::TooLarge);
    }
}
