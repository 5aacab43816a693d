//! The key `module.http`: a module on a web server.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use sources::reference::HttpReference;
use sources::{Digest, Error, ErrorKind, Reference};

use super::secret_name::SecretName;
use super::string_or_map::string_or_map;

/// `module.http`: an address, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Http {
    /// An address such as `https://files.example.com/resize.wasm`. Its fragment can have the digest
    /// of the file, `#sha256=…`.
    Url(String),
    /// An address, with digests, headers and credentials.
    Detailed(HttpDetailed),
}

string_or_map!(Http, Url, Http::Detailed, "an address, or a map with `url`");

/// `module.http` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpDetailed {
    /// Address of the file.
    url: String,
    /// Digest of the file as the server sends it, `sha256:…`.
    digest: Option<String>,
    /// Digest of the module, if the file is compressed or an archive.
    module_digest: Option<String>,
    /// Secret with a password, a token or headers for the server.
    auth_secret: Option<SecretName>,
    /// Request headers without secrets.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Http {
    pub(super) fn reference(&self) -> Result<Reference, Error> {
        match self {
            Self::Url(url) => HttpReference::new(url, None, None),
            Self::Detailed(detailed) => detailed.reference(),
        }
        .map(Reference::from)
    }

    pub(super) fn auth_secret(&self) -> Option<&SecretName> {
        match self {
            Self::Url(_) => None,
            Self::Detailed(detailed) => detailed.auth_secret.as_ref(),
        }
    }
}

impl HttpDetailed {
    fn reference(&self) -> Result<HttpReference, Error> {
        let digest = parse_digest(self.digest.as_deref())?;
        let module_digest = parse_digest(self.module_digest.as_deref())?;
        HttpReference::new(&self.url, digest, module_digest)?.with_headers(&self.headers)
    }
}

/// Parses a digest of a template, `sha256:…`.
pub(super) fn parse_digest(text: Option<&str>) -> Result<Option<Digest>, Error> {
    let digest = text.map(str::parse::<Digest>).transpose();
    digest.map_err(|error| Error::new(ErrorKind::InvalidReference, error.to_string()))
}
