//! References to Wasmer registries: `wapm://namespace/name@version`

use std::fmt;

use semver::Version;

use super::kind::{ContentDigests, ReferenceKind, Syntax, last_segment, without_fragment};
use super::{Endpoint, Reference, invalid, invalid_digest, is_segment, pairs, write_pairs};
use crate::{Digest, Error, PullPolicy};

/// A package in the Wasmer registry, or in another registry with the same API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WasmerReference {
    package: String,
    version: Option<String>,
    command: Option<String>,
    registry: Option<Endpoint>,
    digest: Option<Digest>,
}

impl WasmerReference {
    pub(super) const SYNTAX: Syntax = Syntax {
        prefixes: &["wapm:"],
        subjects: &["wapm://", "wapm:HOST//"],
        parse: |text| {
            let name = text.strip_prefix("wapm:").unwrap_or(text);
            Self::parse(name.trim_start_matches("//")).map(Reference::from)
        },
        check_pattern: |_| Ok(()),
    };

    /// Reads `namespace/name[@version][#command=…&registry=…&sha256=…]`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, fragment) = text.split_once('#').unwrap_or((text, ""));
        let pairs = pairs(fragment, &["command", "registry", "sha256"]).ok_or_else(|| {
            invalid(
                text,
                "its fragment may have `command=…`, `registry=…` and `sha256=…`",
            )
        })?;
        let (package, version) = match name.split_once('@') {
            Some((package, version)) => (package, Some(version)),
            None => (name, None),
        };
        // Old packages have no namespace.
        let mut words = package.split('/');
        let named = words.clone().count() <= 2 && words.all(is_word);
        if !named {
            return Err(invalid(
                text,
                "it must look like `wapm://acme/resize@1.4.0`",
            ));
        }
        let version = version.filter(|version| *version != "latest");
        if version.is_some_and(|version| Version::parse(version).is_err()) {
            return Err(invalid(
                text,
                "its version must be exact, such as `1.4.0`, or left out for the newest",
            ));
        }
        let digest = pairs
            .get("sha256")
            .map(|hex| format!("sha256:{hex}").parse())
            .transpose();
        let digest = digest.map_err(|error| invalid_digest(text, error))?;
        let reference = Self {
            package: package.to_owned(),
            version: version.map(str::to_owned),
            command: None,
            registry: None,
            digest,
        };
        let reference = reference.with_command(pairs.get("command").map(String::as_str))?;
        reference.with_registry(pairs.get("registry").map(String::as_str))
    }

    /// Chooses a command of the package. `None` changes nothing.
    pub fn with_command(self, command: Option<&str>) -> Result<Self, Error> {
        match command {
            Some(command) if !is_word(command) => {
                Err(invalid(command, "it cannot be a command of a package"))
            }
            Some(command) => Ok(Self {
                command: Some(command.to_owned()),
                ..self
            }),
            None => Ok(self),
        }
    }

    /// Sets the registry: `host[:port]`, or the URL of its GraphQL API. `None` changes nothing.
    pub fn with_registry(self, registry: Option<&str>) -> Result<Self, Error> {
        match registry {
            Some(registry) => Ok(Self {
                registry: Some(registry.parse()?),
                ..self
            }),
            None => Ok(self),
        }
    }

    /// The reference without its registry: the operator's default registry.
    #[must_use]
    pub(crate) fn in_default_registry(self) -> Self {
        Self {
            registry: None,
            ..self
        }
    }

    /// Sets the digest that the file of the package must have. `None` changes nothing.
    #[must_use]
    pub fn with_digest(self, digest: Option<Digest>) -> Self {
        Self {
            digest: digest.or(self.digest),
            ..self
        }
    }

    /// The reference with this version.
    #[must_use]
    pub(crate) fn at(self, version: String) -> Self {
        Self {
            version: Some(version),
            ..self
        }
    }

    /// The name of the package, `namespace/name`.
    pub fn package(&self) -> &str {
        &self.package
    }

    /// The version. `None` for the newest.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The chosen command of the package.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// The registry, if it is not the operator's default registry.
    pub fn registry(&self) -> Option<&Endpoint> {
        self.registry.as_ref()
    }

    /// The digest that the file of the package must have.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl ReferenceKind for WasmerReference {
    fn scheme(&self) -> &'static str {
        "wapm"
    }

    /// `wapm:HOST//…` if the reference names its registry: in another registry, the name is another
    /// package.
    fn policy_subject(&self) -> String {
        let text = self.to_string();
        let name = without_fragment(&text);
        match &self.registry {
            Some(registry) => format!("wapm:{}//{name}", registry.authority()),
            None => format!("wapm://{name}"),
        }
    }

    fn server(&self) -> String {
        let registry = self.registry.as_ref();
        registry.map_or_else(|| self.scheme().to_owned(), Endpoint::authority)
    }

    fn pinned(&self) -> Option<Digest> {
        self.digest.clone()
    }

    fn pin(&self, artifact: &Digest) -> Option<Reference> {
        let pinned = self.clone().with_digest(Some(artifact.clone()));
        Some(pinned.into())
    }

    fn how_to_pin(&self) -> &'static str {
        "add it as `wapm.digest`, or to the reference, `…#sha256=…`"
    }

    fn accepts(&self, content: &ContentDigests<'_>) -> bool {
        self.pinned()
            .is_none_or(|pinned| pinned == *content.first_part)
    }

    /// `Always` for the newest version of a package.
    fn default_pull_policy(&self) -> PullPolicy {
        match (&self.version, &self.digest) {
            (None, None) => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        }
    }

    fn program_name(&self) -> Option<String> {
        last_segment(&self.package)
    }
}

fn is_word(word: &str) -> bool {
    word.len() <= 200 && is_segment(word)
}

impl fmt::Display for WasmerReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.package)?;
        self.version
            .as_ref()
            .map_or(Ok(()), |version| write!(f, "@{version}"))?;
        let registry = self.registry.as_ref().map(Endpoint::as_str);
        let digest = self.digest.as_ref().map(Digest::hex);
        write_pairs(
            f,
            [
                ("command", self.command()),
                ("registry", registry),
                ("sha256", digest),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasmer_references_have_a_name_and_an_exact_version_or_none() {
        let text =
            "acme/resize@1.4.0#command=thumb&registry=https%3A%2F%2Fr.example%3A8443%2Fgraphql";
        let reference = WasmerReference::parse(text).unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(
            (reference.package(), reference.version()),
            ("acme/resize", Some("1.4.0"))
        );
        assert_eq!(reference.command(), Some("thumb"));
        assert_eq!(
            WasmerReference::parse("cowsay@latest").unwrap().to_string(),
            "cowsay"
        );
        for text in [
            "",
            "a/b/c",
            "a/b@^1",
            "a/b@1",
            "a\"b/c",
            "a/..",
            "a/b#command=",
            "a/b#command=a&command=b",
            "a/b#x=1",
            "a/b#registry=ftp%3A%2F%2Fx",
            "a/b#sha256=00",
            "a b/c",
        ] {
            assert!(WasmerReference::parse(text).is_err(), "{text}");
        }
    }
}
