//! References: the names of modules.
//!
//! Each kind of reference has its own type, which implements [`ReferenceKind`]. [`Reference`] is an
//! enum of all kinds, and derefs to that trait. Only this folder knows the list of kinds. Other
//! code calls the methods of the trait.

mod bindle;
mod endpoint;
mod file;
mod http;
mod kind;
mod oci;
mod pattern;
#[cfg(test)]
mod toy;
mod wasmer;
mod wkg;

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

pub use bindle::BindleReference;
pub use endpoint::Endpoint;
pub use file::FileReference;
pub use http::HttpReference;
use kind::Syntax;
pub use kind::{ContentDigests, ReferenceKind};
pub use oci::{OciReference, Select, canonical_registry};
pub use pattern::{PatternError, check_pattern};
#[cfg(test)]
pub(crate) use toy::ToyReference;
pub use wasmer::WasmerReference;
pub use wkg::WkgReference;

use crate::digest::ParseDigestError;
use crate::{Error, ErrorKind};

/// Makes [`Reference`] from the list of kinds: its variants, `Deref`, `From`, and the table of
/// syntaxes.
macro_rules! kinds {
    ($($(#[doc = $doc:expr])* $(#[cfg($condition:meta)])? $variant:ident($kind:ty),)+) => {
        /// The name of a module. `Display` writes the canonical form; parsing that gives an equal
        /// reference.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[non_exhaustive]
        pub enum Reference {
            $($(#[doc = $doc])* $(#[cfg($condition)])? $variant($kind),)+
        }

        impl Deref for Reference {
            type Target = dyn ReferenceKind;

            fn deref(&self) -> &Self::Target {
                match self {
                    $($(#[cfg($condition)])? Self::$variant(kind) => kind,)+
                }
            }
        }

        $($(#[cfg($condition)])? impl From<$kind> for Reference {
            fn from(kind: $kind) -> Self {
                Self::$variant(kind)
            }
        })+

        /// How references are written, one entry for each kind.
        const SYNTAXES: &[Syntax] = &[$($(#[cfg($condition)])? <$kind>::SYNTAX,)+];
    };
}

kinds! {
    /// `oci://host/repository:tag@digest`
    Oci(OciReference),
    /// `https://host/path#sha256=…`
    Http(HttpReference),
    /// `wapm://namespace/name@version`
    Wasmer(WasmerReference),
    /// `bindle://name/version`
    Bindle(BindleReference),
    /// `wkg:namespace:name@version`
    Wkg(WkgReference),
    /// `file:///path`
    File(FileReference),
    /// `toy://name`, of the test in [`crate::toy`]
    #[cfg(test)]
    Toy(ToyReference),
}

impl Reference {
    /// The reference as the type of its kind. `None` if it is of another kind than `T`.
    pub fn as_kind<T: ReferenceKind>(&self) -> Option<&T> {
        let kind: &dyn Any = &**self;
        kind.downcast_ref()
    }

    /// The type of the kind, for the table of sources.
    pub(crate) fn kind_id(&self) -> TypeId {
        let kind: &dyn Any = &**self;
        kind.type_id()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Reads a URI. A text without a scheme is an OCI reference.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidReference,
                "the module reference is empty",
            ));
        }
        let begins = |syntax: &&Syntax| syntax.prefixes.iter().any(|start| text.starts_with(start));
        if let Some(syntax) = SYNTAXES.iter().find(begins) {
            return (syntax.parse)(text);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let known = SYNTAXES.iter().flat_map(|syntax| syntax.subjects);
            let known: Vec<String> = known
                .filter(|subject| !subject.contains("HOST"))
                .map(|subject| format!("`{subject}`"))
                .collect();
            let reason = format!(
                "the scheme `{scheme}://` is not one of {}",
                known.join(", ")
            );
            return Err(invalid(text, &reason));
        }
        OciReference::parse(text).map(Self::from)
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// Whether the text is safe as a segment of a path: letters, digits and `_-.`, but not `.` or `..`.
fn is_segment(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !text.is_empty() && text.chars().all(plain) && !matches!(text, "." | "..")
}

/// The values in a fragment. `None` if it has a key that is not in `keys`, a key twice, or a key
/// without a value.
fn pairs<'a>(fragment: &str, keys: &[&'a str]) -> Option<BTreeMap<&'a str, String>> {
    let mut pairs = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(fragment.as_bytes()) {
        let key = keys
            .iter()
            .find(|known| **known == key)
            .filter(|_| !value.is_empty())?;
        if pairs.insert(*key, value.into_owned()).is_some() {
            return None;
        }
    }
    Some(pairs)
}

/// Writes a fragment that [`pairs`] reads.
fn write_pairs<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    pairs: [(&str, Option<&str>); N],
) -> fmt::Result {
    let mut separator = '#';
    for (key, value) in pairs {
        let Some(value) = value else { continue };
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        write!(f, "{separator}{key}={value}")?;
        separator = '&';
    }
    Ok(())
}

/// The error for a text that is not a reference. A password in the text is not shown.
fn invalid(text: &str, why: &str) -> Error {
    let clipped: String = without_password(text).chars().take(200).collect();
    Error::new(
        ErrorKind::InvalidReference,
        format!("`{clipped}` is not a module reference: {why}"),
    )
}

/// The error for a reference whose digest is malformed.
fn invalid_digest(text: &str, error: ParseDigestError) -> Error {
    let why = match &error {
        ParseDigestError::Algorithm(_) => {
            "its digest must start with `sha256:` or `sha512:`".to_owned()
        }
        ParseDigestError::Hex(_, algorithm, length) => {
            format!("its digest needs {length} hex digits after `{algorithm}:`")
        }
    };
    invalid(text, &why).caused_by(error)
}

/// The text without user name and password before the host.
fn without_password(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| {
        (&text[..scheme.len() + 3], rest)
    });
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        // `@sha…` is the digest of a reference, not a host.
        Some(at) if !rest[at..].starts_with("@sha") => format!("{scheme}…{}", &rest[at..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn oci(text: &str) -> OciReference {
        let reference: Reference = text.parse().unwrap();
        reference.as_kind::<OciReference>().unwrap().clone()
    }

    #[test]
    fn references_to_docker_hub_are_equal_with_and_without_its_name() {
        let written = ["alpine", "docker.io/library/alpine", "oci://alpine:latest"].map(oci);
        let hashes =
            |reference: &OciReference| std::collections::HashSet::from([reference.clone()]);
        for reference in &written {
            assert_eq!(*reference, written[0]);
            assert_eq!(hashes(reference), hashes(&written[0]));
        }
        assert!(written[0].implies_docker_hub() && !written[1].implies_docker_hub());
        for other in ["alpine:3", "ghcr.io/library/alpine", "alpine#path=a"] {
            assert_ne!(oci(other), written[0], "{other}");
        }
    }

    #[test]
    fn oci_references_follow_dockers_defaults() {
        let cases = [
            (
                "oci://ghcr.io/acme/resize:1.4.0",
                "ghcr.io",
                "acme/resize",
                Some("1.4.0"),
            ),
            (
                "ghcr.io/acme/resize",
                "ghcr.io",
                "acme/resize",
                Some("latest"),
            ),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000", "a/b", Some("c")),
            ("localhost:5000/m:1", "localhost:5000", "m", Some("1")),
            (
                "acme/resize:2",
                "registry-1.docker.io",
                "acme/resize",
                Some("2"),
            ),
            (
                "index.docker.io/acme/resize:2",
                "registry-1.docker.io",
                "acme/resize",
                Some("2"),
            ),
            (
                "GHCR.io:443/acme/resize:2",
                "ghcr.io",
                "acme/resize",
                Some("2"),
            ),
            (
                "oci://[::1]:5000/team/tool:1.0",
                "[::1]:5000",
                "team/tool",
                Some("1.0"),
            ),
            (
                "[2001:DB8:0:0::A]:443/tool",
                "[2001:db8::a]",
                "tool",
                Some("latest"),
            ),
        ];
        for (text, registry, repository, tag) in cases {
            let reference = oci(text);
            assert_eq!(
                (
                    reference.registry(),
                    reference.repository(),
                    reference.tag()
                ),
                (registry, repository, tag),
                "{text}"
            );
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag_in_any_case() {
        let reference = oci(&format!(
            "ghcr.io/a/b:1@sha256:{}",
            DIGEST[7..].to_uppercase()
        ));
        assert_eq!(reference.manifest(), DIGEST);
        assert_eq!(reference.tag(), Some("1"));
    }

    #[test]
    fn the_canonical_form_parses_to_an_equal_reference() {
        let texts = [
            "oci://ghcr.io/a/b:1".to_owned(),
            format!("oci://ghcr.io/a/b@{DIGEST}"),
            format!("oci://[::1]:5000/team/tool@{DIGEST}"),
            format!("oci://[fd00::1]/tool:1@{DIGEST}#layer=0"),
            "https://[::1]:8443/m.wasm".to_owned(),
            "oci://ghcr.io/a/b:1#path=%2Fapp%2Fa+b.wasm".to_owned(),
            format!("oci://ghcr.io/a/b:1#layer=sha256%3A{}", &DIGEST[7..]),
            format!("https://example.com/m.wasm?x=1#sha256={}", &DIGEST[7..]),
            format!(
                "https://example.com/m.tar.gz#sha256={}&module={DIGEST}",
                &DIGEST[7..]
            ),
            "https://example.com/m#header=accept%3Aa%2Fb&header=x-y%3Az".to_owned(),
            format!("https://example.com/m#module={DIGEST}"),
            "https://example.com/m".to_owned(),
            format!("wapm://acme/resize@1.4.0#command=a&sha256={}", &DIGEST[7..]),
            "bindle://acme.dev/resize/1.4.0".to_owned(),
            format!("bindle://acme.dev/resize/1.4.0#parcel={}", &DIGEST[7..]),
            "wkg:acme:resize@1.4.0".to_owned(),
            "file:///tmp/m.wasm".to_owned(),
        ];
        for text in texts {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(
                reference.to_string().parse::<Reference>().unwrap(),
                reference
            );
        }
    }

    #[test]
    fn http_takes_one_digest_or_none() {
        assert_eq!(
            "https://example.com/m.wasm"
                .parse::<Reference>()
                .unwrap()
                .pinned(),
            None
        );
        let other = Digest::of(b"x");
        let both = HttpReference::new(
            &format!("https://e.com/m#sha256={}", &DIGEST[7..]),
            Some(other),
            None,
        );
        assert_eq!(both.unwrap_err().kind(), ErrorKind::InvalidReference);
    }

    #[test]
    fn malformed_references_are_refused() {
        for text in [
            "",
            "oci://",
            "ftp://x/y",
            "file://relative",
            "https://u:p@h/m#sha256=00",
            "a/UPPER",
            "Upper/a",
            "a b",
            "a/b#path=",
            "a/b#x=1",
            "a/b#path=a&layer=b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_mistake_in_an_ipv6_address_is_named() {
        for (text, expected) in [
            ("oci://::1/team/tool:1", "must be in brackets"),
            ("::1:5000/team/tool:1", "must be in brackets"),
            ("oci://[fe80::1%25eth0]:5000/tool:1", "must not have a zone"),
            ("fe80::1%eth0/tool:1", "must not have a zone"),
            ("[::1]:x/tool:1", "its port must be a number"),
            ("oci://[::1]:5000", "the repository is missing"),
            ("[::1]:5000", "the repository is missing"),
            ("[::1]/Tool:1", "must be in lower case"),
            ("[::1]:5000/tool@sha256:00", "needs 64 hex digits"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for text in [
            "ftp://u:hunter2@h/x",
            "s3://key:hunter2@h/x",
            "user:hunter2@ghcr.io/a/B:1",
            "https://u:hunter2@h/x",
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = "a/B@sha256:00"
            .parse::<Reference>()
            .unwrap_err()
            .to_string();
        assert!(error.contains("a/B@sha256:00"), "{error}");
    }

    #[test]
    fn one_host_has_one_canonical_form() {
        for (text, one) in [
            ("10.1/acme/x:1", "oci://10.0.0.1/acme/x:1"),
            ("0x7f.1:5000/x:1", "oci://127.0.0.1:5000/x:1"),
            ("10.0.0.010/x:1", "oci://10.0.0.8/x:1"),
            ("[0::0:1]:443/x:1", "oci://[::1]/x:1"),
            ("[::ffff:10.0.0.1]:080/x:1", "oci://[::ffff:a00:1]:80/x:1"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), one);
        }
        assert!("file:///mods//x.wasm".parse::<Reference>().is_err());
    }

    #[test]
    fn a_signed_query_is_not_shown() {
        let reference: Reference = format!("https://h/m?sig=secret#sha256={}", &DIGEST[7..])
            .parse()
            .unwrap();
        assert_eq!(reference.redacted(), "https://h/m?…");
    }
}
