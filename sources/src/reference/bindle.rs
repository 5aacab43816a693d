//! References to Bindle: `bindle://name/version`
//!
//! The specification is <https://github.com/deislabs/bindle/blob/main/docs/bindle-spec.md>.

use std::fmt;

use semver::Version;

use super::kind::{ContentDigests, ReferenceKind, Syntax, last_segment, without_fragment};
use super::{Endpoint, Reference, invalid, is_segment, pairs, write_pairs};
use crate::{Digest, Error};

/// A parcel of a bindle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindleReference {
    name: String,
    version: Version,
    parcel: Option<String>,
    server: Option<Endpoint>,
}

impl BindleReference {
    pub(super) const SYNTAX: Syntax = Syntax {
        prefixes: &["bindle:"],
        subjects: &["bindle://", "bindle:HOST//"],
        parse: |text| {
            let id = text.strip_prefix("bindle:").unwrap_or(text);
            Self::parse(id.trim_start_matches("//")).map(Reference::from)
        },
        check_pattern: |_| Ok(()),
    };

    /// Reads `name/version[#parcel=…&server=…]`. The name may have slashes. The version is the text
    /// after the last slash.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (id, fragment) = text.split_once('#').unwrap_or((text, ""));
        let pairs = pairs(fragment, &["parcel", "server"])
            .ok_or_else(|| invalid(text, "its fragment may have `parcel=…` and `server=…`"))?;
        let (name, version) = id
            .rsplit_once('/')
            .ok_or_else(|| invalid(text, "it must look like `acme.dev/resize/1.4.0`"))?;
        if name.len() > 500 || !name.split('/').all(is_segment) {
            return Err(invalid(
                text,
                "its name must be letters, digits, `_`, `-` and `.`, with slashes between them",
            ));
        }
        let version = Version::parse(version).map_err(|error| {
            invalid(text, "its version must be exact, such as `1.4.0`").caused_by(error)
        })?;
        let reference = Self {
            name: name.to_owned(),
            version,
            parcel: pairs.get("parcel").cloned(),
            server: None,
        };
        reference.with_server(pairs.get("server").map(String::as_str))
    }

    /// The reference without its server: the operator's default server.
    #[must_use]
    pub(crate) fn on_default_server(self) -> Self {
        Self {
            server: None,
            ..self
        }
    }

    /// Sets the server: `host[:port]`, or the URL of its API. `None` changes nothing.
    pub fn with_server(self, server: Option<&str>) -> Result<Self, Error> {
        match server {
            Some(server) => Ok(Self {
                server: Some(server.parse()?),
                ..self
            }),
            None => Ok(self),
        }
    }

    /// Chooses one of several parcels, by name or by the hex digits of its SHA-256. `None` changes
    /// nothing.
    #[must_use]
    pub fn with_parcel(self, parcel: Option<String>) -> Self {
        Self {
            parcel: parcel.filter(|parcel| !parcel.is_empty()).or(self.parcel),
            ..self
        }
    }

    /// The name of the bindle.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of the bindle.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// `name/version`, for the path of a request.
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }

    /// The chosen parcel: a name, or the hex digits of its SHA-256.
    pub fn parcel(&self) -> Option<&str> {
        self.parcel.as_deref()
    }

    /// The server that the reference names.
    pub fn named_server(&self) -> Option<&Endpoint> {
        self.server.as_ref()
    }

    /// The digest of the chosen parcel, if the parcel was chosen by its digest.
    pub fn digest(&self) -> Option<Digest> {
        format!("sha256:{}", self.parcel.as_deref()?).parse().ok()
    }
}

impl ReferenceKind for BindleReference {
    fn scheme(&self) -> &'static str {
        "bindle"
    }

    /// `bindle:HOST//…` if the reference names its server: on another server, the name is another
    /// bindle.
    fn policy_subject(&self) -> String {
        let text = self.to_string();
        let name = without_fragment(&text);
        match &self.server {
            Some(server) => format!("bindle:{}//{name}", server.authority()),
            None => format!("bindle://{name}"),
        }
    }

    fn server(&self) -> String {
        let server = self.server.as_ref();
        server.map_or_else(|| self.scheme().to_owned(), Endpoint::authority)
    }

    fn pinned(&self) -> Option<Digest> {
        self.digest()
    }

    fn pin(&self, artifact: &Digest) -> Option<Reference> {
        let pinned = self.clone().with_parcel(Some(artifact.hex().to_owned()));
        Some(pinned.into())
    }

    fn how_to_pin(&self) -> &'static str {
        "name the parcel by its SHA-256, `bindle.parcel`"
    }

    fn accepts(&self, content: &ContentDigests<'_>) -> bool {
        self.pinned()
            .is_none_or(|pinned| pinned == *content.first_part)
    }

    fn program_name(&self) -> Option<String> {
        last_segment(&self.name)
    }
}

impl fmt::Display for BindleReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)?;
        write_pairs(
            f,
            [
                ("parcel", self.parcel()),
                ("server", self.server.as_ref().map(Endpoint::as_str)),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindle_references_have_an_exact_version() {
        let text =
            "acme.dev/tools/resize/1.4.0-rc.1#parcel=main.wasm&server=bindle.example%3A8080%2Fv1";
        let reference = BindleReference::parse(text).unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.id(), "acme.dev/tools/resize/1.4.0-rc.1");
        assert_eq!(reference.digest(), None);
        let digest = Digest::of(b"");
        assert_eq!(
            reference
                .with_parcel(Some(digest.hex().to_owned()))
                .digest(),
            Some(digest)
        );
        for text in [
            "",
            "a",
            "a/1",
            "a/^1.0.0",
            "/1.0.0",
            "../../x/1.0.0",
            "a//b/1.0.0",
            "a?/1.0.0",
            "a/1.0.0#x=1",
            "ä/1.0.0",
        ] {
            assert!(BindleReference::parse(text).is_err(), "{text}");
        }
    }
}
