//! `wkg:` references: package names that are located in an OCI registry.
//!
//! The convention is that of wasm-pkg-tools (<https://github.com/bytecodealliance/wasm-pkg-tools>,
//! `docs/registry-metadata.md`):
//!
//! 1. A namespace has a registry, which is a host.
//! 2. `/.well-known/wasm-pkg/registry.json` on that host names an OCI registry and a prefix.
//! 3. The package is the repository `PREFIXNAMESPACE/NAME` in the OCI registry. Its versions are
//!    tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use net::Request;
use semver::Version;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::oci::OciSource;
use crate::reference::{OciReference, WkgReference, canonical_registry};
use crate::source::{Context, Locator};
use crate::{Error, ErrorKind, Reference};

const MAX_METADATA_BYTES: u64 = 64 << 10;
/// The default registries of two namespaces, as in wasm-pkg-tools.
const KNOWN: [(&str, &str); 2] = [("wasi", "wasi.dev"), ("ba", "bytecodealliance.org")];

/// The registries of package namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registries {
    /// Registry of the namespaces that are not in `namespaces`.
    pub default: Option<String>,
    /// Registry of each namespace, by its name.
    pub namespaces: BTreeMap<String, String>,
}

/// `registry.json`, in the current format and in the deprecated format (`ociRegistry`).
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    preferred_protocol: Option<String>,
    oci: Option<OciMetadata>,
    oci_registry: Option<String>,
    oci_namespace_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciMetadata {
    registry: Option<String>,
    namespace_prefix: Option<String>,
}

impl Registries {
    /// The registry of a namespace: from `namespaces`, `default` or [`KNOWN`], in this order.
    fn of(&self, namespace: &str) -> Result<&str, Error> {
        let known = KNOWN
            .iter()
            .find(|(name, _)| *name == namespace)
            .map(|(_, registry)| *registry);
        let configured = self
            .namespaces
            .get(namespace)
            .or(self.default.as_ref())
            .map(String::as_str);
        configured.or(known).ok_or_else(|| {
            Error::new(ErrorKind::InvalidReference, format!("no registry is known for the namespace `{namespace}`"))
                .with_hint("ask the operator to set `sources.wkg.namespaces` for this namespace, or `sources.wkg.default` for all namespaces")
        })
    }
}

/// Finds the OCI repository of a package.
#[derive(Debug)]
pub struct WkgLocator {
    registries: Registries,
    oci: Arc<OciSource>,
}

impl WkgLocator {
    /// Creates a locator for these registries. `oci` lists the versions of a package.
    pub fn new(registries: Registries, oci: Arc<OciSource>) -> Self {
        Self { registries, oci }
    }
}

#[async_trait]
impl Locator for WkgLocator {
    type Reference = WkgReference;

    async fn locate(
        &self,
        package: &WkgReference,
        context: &Context<'_>,
    ) -> Result<Reference, Error> {
        let registry = self.registries.of(package.namespace())?;
        let metadata = metadata(registry, context).await?;
        if let Some(protocol) = metadata
            .preferred_protocol
            .filter(|protocol| protocol != "oci")
        {
            let shown: String = protocol.chars().take(40).collect();
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("`{registry}` prefers the protocol `{shown}`; only `oci` is supported"),
            ));
        }
        let oci = metadata.oci.unwrap_or(OciMetadata {
            registry: metadata.oci_registry,
            namespace_prefix: metadata.oci_namespace_prefix,
        });
        let host = oci.registry.unwrap_or_else(|| registry.to_owned());
        let prefix = oci.namespace_prefix.unwrap_or_default();
        let repository = format!("{host}/{prefix}{}/{}", package.namespace(), package.name());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._:/-[]".contains(c);
        // A host without a dot is parsed as the name of a repository on Docker Hub.
        let parsed = OciReference::parse(&repository)
            .ok()
            .filter(|parsed| parsed.host() == canonical_registry(&host));
        let Some(parsed) = parsed.filter(|_| repository.chars().all(plain)) else {
            let shown: String = host.chars().take(100).collect();
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the metadata of `{registry}` names the OCI registry `{shown}`, which is not a registry's host"
                ),
            ));
        };
        let version = match package.version() {
            Some(version) => version.clone(),
            None => newest(&parsed, &self.oci, context).await?,
        };
        // A tag cannot have the `+` of build metadata. Publishers write `_` instead.
        let tag = version.to_string().replace('+', "_");
        OciReference::parse(&format!("{repository}:{tag}")).map(Reference::from)
    }
}

/// The newest version of the package that is not a pre-release.
async fn newest(
    repository: &OciReference,
    oci: &OciSource,
    context: &Context<'_>,
) -> Result<Version, Error> {
    let tags = oci.tags(repository, context).await?;
    let versions = tags
        .iter()
        .filter_map(|tag| Version::parse(&tag.replace('_', "+")).ok());
    versions
        .filter(|version| version.pre.is_empty())
        .max()
        .ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("`{repository}` has no released version"),
            )
        })
}

/// Fetches `registry.json` of the registry. Without the file, the registry itself is the OCI
/// registry.
async fn metadata(registry: &str, context: &Context<'_>) -> Result<Metadata, Error> {
    let scheme = context.http.scheme(registry);
    let url = format!("{scheme}://{registry}/.well-known/wasm-pkg/registry.json");
    let url = Url::parse(&url).map_err(|error| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("`{registry}` is not a registry's host"),
        )
        .caused_by(error)
    })?;
    let answer = context.http.send(&Request::get(url)).await?;
    if matches!(answer.status.as_u16(), 404 | 410) {
        return Ok(Metadata::default());
    }
    if !answer.status.is_success() {
        return Err(answer.error("registry metadata").into());
    }
    let bytes = answer
        .bytes(MAX_METADATA_BYTES, "the metadata of the registry")
        .await?;
    go_json::from_slice(&bytes).map_err(|error| {
        Error::new(
            ErrorKind::Protocol,
            format!("the metadata of the registry `{registry}` is malformed"),
        )
        .caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_registries_override_the_known_registries() {
        let namespaces = BTreeMap::from([("acme".to_owned(), "acme.example".to_owned())]);
        let some = Registries {
            default: None,
            namespaces,
        };
        assert_eq!(
            (some.of("acme").unwrap(), some.of("wasi").unwrap()),
            ("acme.example", "wasi.dev")
        );
        assert!(some.of("other").is_err());
        let all = Registries {
            default: Some("all.example".to_owned()),
            ..some
        };
        assert_eq!(
            (all.of("other").unwrap(), all.of("wasi").unwrap()),
            ("all.example", "all.example")
        );
    }
}
