//! Manifests and indexes: parsed and validated before any field is used.
//!
//! The formats are in <https://github.com/opencontainers/image-spec/blob/main/manifest.md> and in
//! `image-index.md` of the same directory.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Digest, Error, ErrorKind, Part};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media types of the `Accept` header of a request for a manifest.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    OCI_MANIFEST,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// The [`MANIFEST_TYPES`] that are indexes.
pub(super) const INDEX_TYPES: [&str; 2] = [MANIFEST_TYPES[2], MANIFEST_TYPES[3]];

/// The maximum number of layers of a manifest, and of manifests of an index.
const MAX_ENTRIES: usize = 512;

/// The content at a registry's `manifests/` endpoint.
#[derive(Debug)]
pub(super) enum Document {
    /// An image manifest: one image or artifact.
    Manifest(Manifest),
    /// An image index: descriptors of manifests, for example one for each platform.
    Index(Vec<Descriptor>),
}

/// An image manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) artifact_type: String,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
}

/// A content descriptor of a blob or of another document.
///
/// `urls` is ignored on purpose: a manifest must not choose the server of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) platform: Option<Platform>,
    /// `artifactType` of the described manifest. Only descriptors of an index have one.
    pub(super) artifact_type: String,
}

/// `platform` of a descriptor of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

/// `null` is read as an absent field, as in clients that are written in Go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: String,
    size: i64,
    annotations: Option<BTreeMap<String, Option<String>>>,
    platform: Option<RawPlatform>,
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
}

impl RawDocument {
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        go_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Protocol, "the registry's manifest is malformed").caused_by(error)
        })
    }
}

impl Document {
    /// Parses a document that was sent with this `Content-Type`.
    ///
    /// A `mediaType` that differs from the `Content-Type` is an error: clients could disagree about
    /// the type of the document (CVE-2021-41190).
    pub(super) fn parse_as(bytes: &[u8], content_type: Option<&str>) -> Result<Self, Error> {
        let raw = RawDocument::parse(bytes)?;
        let sent = content_type
            .and_then(|sent| sent.split(';').next())
            .map(str::trim);
        if let Some(sent) = sent.filter(|sent| MANIFEST_TYPES.contains(sent))
            && let Some(media_type) = &raw.media_type
            && sent != media_type
        {
            let media_type: String = media_type.chars().take(100).collect();
            let message = format!(
                "the registry sends the manifest with the content type `{sent}`, but its `mediaType` is `{media_type}`"
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
        if let Some(media_type) = raw
            .media_type
            .as_deref()
            .filter(|media_type| MANIFEST_TYPES.contains(media_type))
            && INDEX_TYPES.contains(&media_type) != raw.manifests.is_some()
        {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the fields of the manifest do not match its `mediaType` `{media_type}`"),
            ));
        }
        match (raw.manifests, raw.layers, raw.config) {
            // CVE-2021-41190: one client reads the document as an index, another as an image.
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(Error::new(
                ErrorKind::Protocol,
                "the manifest has fields of an index and of an image",
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
                "the manifest has a descriptor with a malformed digest",
            )
            .caused_by(error)
        })?;
        let size = u64::try_from(raw.size).map_err(|_| {
            Error::new(
                ErrorKind::Protocol,
                format!(
                    "the manifest has an invalid size for `{digest}`: {}",
                    raw.size
                ),
            )
        })?;
        let annotations = raw.annotations.unwrap_or_default().into_iter();
        let annotations = annotations.map(|(name, value)| (name, value.unwrap_or_default()));
        let platform = raw.platform.map(|platform| Platform {
            os: platform.os.unwrap_or_default(),
            architecture: platform.architecture.unwrap_or_default(),
        });
        Ok(Self {
            media_type: raw.media_type.unwrap_or_default(),
            digest,
            size,
            annotations: annotations.collect(),
            platform,
            artifact_type: raw.artifact_type.unwrap_or_default(),
        })
    }
}

impl Descriptor {
    /// The file name: the annotation `org.opencontainers.image.title`, which most tools write.
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
    fn manifests_and_indexes_are_distinguished() {
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
            error
                .to_string()
                .contains("sends the manifest with the content type"),
            "{error}"
        );
        let nulls = format!(
            r#"{{"schemaVersion":2,"mediaType":null,"layers":null,"manifests":[{{"mediaType":null,"digest":"{DIGEST}","size":1,"artifactType":null,"annotations":{{"a":null}},"platform":{{"os":null}}}}]}}"#
        );
        let Document::Index(children) = Document::parse(nulls.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!(children[0].platform, Some(Platform::default()));
        let manifest = Document::parse(br#"{"schemaVersion":2}"#).unwrap();
        assert!(matches!(manifest, Document::Manifest(manifest) if manifest.layers.is_empty()));
    }

    /// Registries and build tools in Go write `null` for lists and maps that are empty.
    #[test]
    fn null_is_absence_in_manifests() {
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":null,"artifactType":null,"manifests":null,"subject":null,
            "annotations":null,"config":{{"digest":"{DIGEST}","size":1,"annotations":null,"platform":null,"urls":null}},
            "layers":[{{"mediaType":null,"digest":"{DIGEST}","size":1,"annotations":{{"a":null}},"artifactType":null}}]}}"#
        );
        let Document::Manifest(read) = Document::parse(manifest.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!((read.layers.len(), read.artifact_type.as_str()), (1, ""));
        let empty = br#"{"schemaVersion":2,"layers":null,"config":null}"#;
        assert!(matches!(Document::parse(empty), Ok(Document::Manifest(_))));
        let index = format!(
            r#"{{"schemaVersion":2,"layers":null,"config":null,"manifests":[{{"digest":"{DIGEST}","size":1,
            "platform":{{"os":null,"architecture":"wasm","os.features":null}}}}]}}"#
        );
        assert!(matches!(
            Document::parse(index.as_bytes()),
            Ok(Document::Index(_))
        ));
    }

    #[test]
    fn ambiguous_and_malformed_manifests_are_errors() {
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
