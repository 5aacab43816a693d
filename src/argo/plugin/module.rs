//! The key `module`: the address of the module, as a URI or by the kind of its source.

use schemars::JsonSchema;
use serde::Deserialize;
use sources::reference::WkgReference;
use sources::{Error, ErrorKind, Reference};

use super::bindle::Bindle;
use super::http::Http;
use super::oci::Oci;
use super::secret_name::SecretName;
use super::string_or_map::string_or_map;
use super::wapm::Wapm;

/// `module`: a URI, or a map with exactly one key.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(in crate::argo) enum ModuleSpec {
    /// A URI, such as `oci://…` or `https://…#sha256=…`. Without a scheme, an OCI reference.
    Uri(String),
    /// A map with one key for the kind of the source.
    Keyed(Box<ModuleByKind>),
}

string_or_map!(
    ModuleSpec,
    Uri,
    |keyed| ModuleSpec::Keyed(Box::new(keyed)),
    "a URI, or a map with one key"
);

/// One key for each kind of source. Exactly one of them is present.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::argo) struct ModuleByKind {
    /// A module in an OCI registry.
    oci: Option<Oci>,
    /// A module on a web server.
    http: Option<Http>,
    /// A package in the Wasmer registry.
    wapm: Option<Wapm>,
    /// A bindle on a Bindle server.
    bindle: Option<Bindle>,
    /// A package by its wasm-pkg name, such as `acme:resize@1.4.0`. Without a version, the newest.
    wkg: Option<String>,
}

impl ModuleSpec {
    /// The reference that this specification describes.
    pub(super) fn reference(&self) -> Result<Reference, Error> {
        match self {
            Self::Uri(uri) => uri.parse(),
            Self::Keyed(keyed) => keyed.reference(),
        }
    }

    /// The Secret with credentials for the web server.
    pub(super) fn auth_secret(&self) -> Option<&SecretName> {
        match self {
            Self::Uri(_) => None,
            Self::Keyed(keyed) => keyed.http.as_ref()?.auth_secret(),
        }
    }
}

impl ModuleByKind {
    fn reference(&self) -> Result<Reference, Error> {
        let references = [
            self.oci.as_ref().map(Oci::reference),
            self.http.as_ref().map(Http::reference),
            self.wapm.as_ref().map(Wapm::reference),
            self.bindle.as_ref().map(Bindle::reference),
            self.wkg.as_deref().map(wkg),
        ];
        let mut given = references.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(reference), None) => reference,
            _ => Err(Error::new(
                ErrorKind::InvalidReference,
                "give exactly one of `oci`, `http`, `wapm`, `bindle`, `wkg`",
            )),
        }
    }
}

fn wkg(package: &str) -> Result<Reference, Error> {
    let package = package.strip_prefix("wkg:").unwrap_or(package);
    WkgReference::parse(package).map(Reference::from)
}
