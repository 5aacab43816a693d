//! The key `module.wapm`: a package in the Wasmer registry.

use schemars::JsonSchema;
use serde::Deserialize;
use sources::reference::WasmerReference;
use sources::{Error, Reference};

use super::http::parse_digest;
use super::string_or_map::string_or_map;

/// `module.wapm`: a package, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Wapm {
    /// A package such as `acme/resize@1.4.0`. Without a version, the newest.
    Package(String),
    /// A package, with a command, a registry or a digest.
    Detailed(WapmDetailed),
}

string_or_map!(
    Wapm,
    Package,
    Wapm::Detailed,
    "a package, or a map with `package`"
);

/// `module.wapm` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WapmDetailed {
    /// The package, with or without a version.
    package: String,
    /// Command of the package. Default: its entrypoint.
    command: Option<String>,
    /// Host of the registry, or URL of its GraphQL API. Default: the operator's registry.
    registry: Option<String>,
    /// Digest of the package's file, `sha256:…`.
    digest: Option<String>,
}

impl Wapm {
    pub(super) fn reference(&self) -> Result<Reference, Error> {
        match self {
            Self::Package(package) => parse(package),
            Self::Detailed(detailed) => detailed.reference(),
        }
        .map(Reference::from)
    }
}

impl WapmDetailed {
    fn reference(&self) -> Result<WasmerReference, Error> {
        let reference = parse(&self.package)?
            .with_command(self.command.as_deref())?
            .with_registry(self.registry.as_deref())?;
        Ok(reference.with_digest(parse_digest(self.digest.as_deref())?))
    }
}

fn parse(text: &str) -> Result<WasmerReference, Error> {
    WasmerReference::parse(text.strip_prefix("wapm://").unwrap_or(text))
}
