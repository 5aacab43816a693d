//! Reading manifests: which layer is the module.
//!
//! Formats: <https://github.com/opencontainers/image-spec/blob/main/manifest.md> and the CNCF layout of
//! <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>.

use serde::Deserialize;

use crate::source::Part;
use crate::{Digest, Error, ErrorKind};

/// What to ask a registry for: indexes are asked for too, so that one is named in the error and not "not found".
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// The layer types that are a module as it is: the CNCF artifact layout, `wasm-to-oci`'s, and `wasme`'s.
const MODULE_TYPES: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u32,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// `urls` is left out on purpose: a manifest must not send us elsewhere for its layers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: i64,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(ErrorKind::Protocol, "the registry's manifest is not one").caused_by(error))?;
        if manifest.schema_version != 2 {
            let version = manifest.schema_version;
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("manifests of schema version {version} are not supported"),
            ));
        }
        if manifest.manifests.is_some() && (manifest.layers.is_some() || manifest.config.is_some()) {
            return Err(Error::new(ErrorKind::Protocol, "the manifest claims to be an index and an image at once"));
        }
        if manifest.manifests.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the reference names an index of several manifests, which this version does not support",
            )
            .hint("name the module's own manifest by its digest, `…@sha256:…`"));
        }
        Ok(manifest)
    }

    /// The one layer that is a module.
    pub(super) fn module_layer(self) -> Result<Part, Error> {
        let layers = self.layers.unwrap_or_default();
        let types: Vec<String> = layers.iter().map(|layer| layer.media_type.clone()).collect();
        let mut modules = layers.into_iter().filter(|layer| MODULE_TYPES.contains(&layer.media_type.as_str()));
        match (modules.next(), modules.next()) {
            (Some(module), None) => module.try_into(),
            (Some(first), Some(second)) => {
                let mut digests = vec![first.digest, second.digest];
                digests.extend(modules.map(|layer| layer.digest));
                let message = format!("the artifact holds {} modules: {}", digests.len(), digests.join(", "));
                Err(Error::new(ErrorKind::Ambiguous, message).hint("publish each module as an artifact of its own"))
            }
            (None, _) => {
                let found = if types.is_empty() { "none".to_owned() } else { types.join(", ") };
                let message = format!("the artifact holds no module this version can read; its layers are: {found}");
                Err(Error::new(ErrorKind::Unsupported, message)
                    .hint("publish it with a layer of type `application/wasm`, for example with `wkg oci push`"))
            }
        }
    }
}

impl TryFrom<Descriptor> for Part {
    type Error = Error;

    fn try_from(layer: Descriptor) -> Result<Self, Error> {
        let digest: Digest = layer.digest.parse().map_err(|error| {
            Error::new(ErrorKind::Protocol, "the manifest names a layer by a malformed digest").caused_by(error)
        })?;
        let size = u64::try_from(layer.size).map_err(|_| {
            Error::new(ErrorKind::Protocol, format!("the manifest says that layer `{digest}` has {} bytes", layer.size))
        })?;
        Ok(Self { digest, size: Some(size), media_type: Some(layer.media_type) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn layers(layers: &[(&str, &str, i64)]) -> Result<Part, Error> {
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, digest, size)| serde_json::json!({"mediaType": media_type, "digest": digest, "size": size}))
            .collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "config": {}, "layers": layers});
        Manifest::parse(manifest.to_string().as_bytes())?.module_layer()
    }

    #[test]
    fn takes_the_only_module_layer() {
        for media_type in MODULE_TYPES {
            let part =
                layers(&[("application/vnd.module.wasm.config.v1+json", DIGEST, 2), (media_type, DIGEST, 9)]).unwrap();
            assert_eq!((part.digest.to_string().as_str(), part.size), (DIGEST, Some(9)));
        }
    }

    #[test]
    fn says_why_there_is_none() {
        let kind = |result: Result<Part, Error>| result.unwrap_err().kind();
        assert_eq!(kind(layers(&[])), ErrorKind::Unsupported);
        assert_eq!(kind(layers(&[("application/vnd.oci.image.layer.v1.tar+gzip", DIGEST, 1)])), ErrorKind::Unsupported);
        assert_eq!(
            kind(layers(&[("application/wasm", DIGEST, 1), ("application/wasm", DIGEST, 1)])),
            ErrorKind::Ambiguous
        );
        assert_eq!(kind(layers(&[("application/wasm", "sha256:../../x", 1)])), ErrorKind::Protocol);
        assert_eq!(kind(layers(&[("application/wasm", DIGEST, -1)])), ErrorKind::Protocol);
    }

    #[test]
    fn refuses_indexes_and_confusion() {
        let kind = |text: &str| Manifest::parse(text.as_bytes()).unwrap_err().kind();
        assert_eq!(kind(r#"{"schemaVersion":2,"manifests":[]}"#), ErrorKind::Unsupported);
        assert_eq!(kind(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#), ErrorKind::Protocol);
        assert_eq!(kind(r#"{"schemaVersion":1}"#), ErrorKind::Unsupported);
        assert_eq!(kind("<html>"), ErrorKind::Protocol);
    }
}
