//! How a module is named.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::distribution::Reference as OciName;
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded};

use crate::wkg::WkgReference;
use crate::{Digest, Error, ErrorKind};

/// Where a module lives. `Display` is the canonical form, and parsing it gives the same reference again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Reference {
    /// `oci://host/repository:tag@digest`
    Oci(OciReference),
    /// `https://host/path#sha256=…`
    Http(HttpReference),
    /// `wkg:namespace:name@version`
    Wkg(WkgReference),
    /// `file:///path`
    File(PathBuf),
}

/// A module in an OCI registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OciReference {
    name: OciName,
    digest: Option<Digest>,
    select: Option<Select>,
}

/// Which of several modules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// The file at this path in an image.
    Path(String),
    /// The layer with this digest, title or number, or this component of a Spin application.
    Layer(String),
}

impl Select {
    fn parse(fragment: &str) -> Option<Self> {
        let mut pairs = form_urlencoded::parse(fragment.as_bytes());
        let (key, value) = pairs.next()?;
        match (&*key, value.is_empty(), pairs.next()) {
            ("path", false, None) => Some(Self::Path(value.into_owned())),
            ("layer", false, None) => Some(Self::Layer(value.into_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = match self {
            Self::Path(path) => ("path", path),
            Self::Layer(layer) => ("layer", layer),
        };
        write!(f, "{key}={}", form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>())
    }
}

impl OciReference {
    /// Reads `[host[:port]/]repository[:tag][@digest][#path=…|#layer=…]`, with Docker's defaults (Docker Hub, `latest`).
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (text, select) = match text.split_once('#') {
            Some((name, fragment)) => {
                let select = Select::parse(fragment);
                (name, Some(select.ok_or_else(|| invalid(text, "its fragment must be `#path=…` or `#layer=…`"))?))
            }
            None => (text, None),
        };
        let text = &canonical_host(text);
        // Registries compare digests as text; people paste them in any case.
        let lowered = text.split_once('@').map(|(name, digest)| format!("{name}@{}", digest.to_ascii_lowercase()));
        let name: OciName = lowered.as_deref().unwrap_or(text).parse().map_err(|error| {
            let repository = text.split_once('/').map_or("", |(_, path)| path.split([':', '@']).next().unwrap_or(path));
            let why = match repository.chars().any(char::is_uppercase) {
                true => "the names of repositories are in lower case",
                false => "it must look like `ghcr.io/acme/resize:1.4.0`",
            };
            invalid(text, why).caused_by(error)
        })?;
        let digest = match name.digest() {
            Some(digest) => {
                Some(digest.parse().map_err(|error| invalid(text, "its digest is malformed").caused_by(error))?)
            }
            None => None,
        };
        Ok(Self { name, digest, select })
    }

    /// The same, with one of several modules chosen.
    #[must_use]
    pub fn with_select(self, select: Select) -> Self {
        Self { select: Some(select), ..self }
    }

    /// Which of several modules.
    pub fn select(&self) -> Option<&Select> {
        self.select.as_ref()
    }

    /// The host and port that requests go to; Docker Hub's name is translated to its API's.
    pub fn registry(&self) -> &str {
        match self.name.resolve_registry() {
            "index.docker.io" => "registry-1.docker.io",
            registry => registry,
        }
    }

    /// The registry's name: `docker.io` for Docker Hub.
    pub fn host(&self) -> &str {
        self.name.registry()
    }

    /// The repository, without the registry.
    pub fn repository(&self) -> &str {
        self.name.repository()
    }

    /// The tag, if one is named or implied.
    pub fn tag(&self) -> Option<&str> {
        self.name.tag()
    }

    /// The manifest digest, if one is named. It wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What stands for the manifest in a request path.
    pub fn manifest(&self) -> String {
        match (&self.digest, self.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        }
    }
}

/// One name for each registry, so that rules and credentials for it hold however it is written: no upper case, no port that says nothing, and
/// none of the other names of Docker Hub.
fn canonical_host(text: &str) -> String {
    let Some((host, rest)) = text.split_once('/') else { return text.to_owned() };
    if !host.contains(['.', ':']) && !host.eq_ignore_ascii_case("localhost") {
        return text.to_owned();
    }
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    format!("{host}/{rest}")
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.whole())?;
        self.select.as_ref().map_or(Ok(()), |select| write!(f, "#{select}"))
    }
}

/// A module on a web server, and the digest its bytes must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpReference {
    url: Url,
    digest: Digest,
    module_digest: Option<Digest>,
}

impl HttpReference {
    /// Takes an address and the digests of what is served there and of the module in it, where that is packed. The address may carry
    /// both as its fragment, `#sha256=…&module=sha256:…`.
    pub fn new(address: &str, digest: Option<Digest>, module_digest: Option<Digest>) -> Result<Self, Error> {
        // It may have a password or a signature in it, and cannot be shown.
        let mut url = Url::parse(address).map_err(|error| {
            Error::new(ErrorKind::InvalidReference, "the module's URL is not a URL").caused_by(error)
        })?;
        if url.host_str().is_some_and(|host| host.ends_with('.')) {
            return Err(invalid(&display_url(&url), "its host ends with a dot"));
        }
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid(address, "it must start with `https://` and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidReference,
                "a module's URL must not carry a user name or password",
            ));
        }
        let (pinned, pinned_module) = match url.fragment().map(digests_of_fragment) {
            Some(Some((pinned, module))) => (Some(pinned), module),
            Some(None) => return Err(invalid(&display_url(&url), "its fragment must be `#sha256=` and 64 hex digits")),
            None => (None, None),
        };
        url.set_fragment(None);
        let module_digest = match (pinned_module, module_digest) {
            (Some(a), Some(b)) if a != b => {
                return Err(invalid(&display_url(&url), "its fragment and `moduleDigest` name different digests"));
            }
            (pinned, given) => pinned.or(given),
        };
        let digest = match (pinned, digest) {
            (Some(a), Some(b)) if a != b => {
                return Err(invalid(&display_url(&url), "its fragment and `digest` name different digests"));
            }
            (Some(digest), _) | (None, Some(digest)) => digest,
            (None, None) => {
                return Err(Error::new(ErrorKind::Unsupported, format!("`{}` names no digest", display_url(&url)))
                    .hint(
                        "add `digest: sha256:…`, or `#sha256=…` at the end of the URL; `sha256sum FILE` computes it",
                    ));
            }
        };
        Ok(Self { url, digest, module_digest })
    }

    /// The address, without the fragment.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The digest of the bytes as served.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The digest that the module in them must have.
    pub fn module_digest(&self) -> Option<&Digest> {
        self.module_digest.as_ref()
    }
}

fn digests_of_fragment(fragment: &str) -> Option<(Digest, Option<Digest>)> {
    let (digest, module) = match fragment.split_once("&module=") {
        Some((digest, module)) => (digest, Some(module.parse().ok()?)),
        None => (fragment, None),
    };
    let (algorithm, digits) = digest.split_once('=')?;
    Some((format!("{algorithm}:{digits}").parse().ok()?, module))
}

/// A URL for people: no query, which may be signed, and no user.
pub(crate) fn display_url(url: &Url) -> String {
    let mut url = url.clone();
    let query = url.query().is_some();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if query { format!("{url}?…") } else { url.to_string() }
}

/// A URL without the escapes that mean nothing (RFC 3986, 6.2.2.2), so that `%61cme` is `acme` for rules about it.
fn decode_unreserved(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(c) = byte.map(char::from).filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c)) {
            decoded.push(c);
            decoded.push_str(&part[2..]);
        } else {
            decoded.push('%');
            decoded.push_str(part);
        }
    }
    decoded
}

impl Reference {
    /// The source that understands it: `oci`, `http` or `file`. Packages are found in OCI registries.
    pub fn source(&self) -> &'static str {
        match self {
            Self::Oci(_) | Self::Wkg(_) => "oci",
            Self::Http(_) => "http",
            Self::File(_) => "file",
        }
    }

    /// For people: the canonical form without what may be secret.
    pub fn redacted(&self) -> String {
        match self {
            Self::Http(http) => display_url(&http.url),
            other => other.to_string(),
        }
    }

    /// What the operator's policy is about: the canonical form without the choice of one of several modules, or a digest in a fragment.
    pub fn subject(&self) -> String {
        let name = self.to_string();
        let name = name.split_once('#').map_or(name.as_str(), |(name, _)| name);
        if let Self::Http(_) = self { decode_unreserved(name) } else { name.to_owned() }
    }

    /// The digest in the reference: the manifest's for OCI, the file's for HTTP.
    pub fn pinned(&self) -> Option<&Digest> {
        match self {
            Self::Oci(oci) => oci.digest(),
            Self::Http(http) => Some(&http.digest),
            Self::File(_) | Self::Wkg(_) => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci(oci) => write!(f, "oci://{oci}"),
            Self::Http(http) => {
                write!(f, "{}#{}={}", http.url, http.digest.algorithm().name(), http.digest.hex())?;
                http.module_digest.as_ref().map_or(Ok(()), |module| write!(f, "&module={module}"))
            }
            Self::Wkg(package) => write!(f, "wkg:{package}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Reads a URI; a text without a scheme is an OCI reference.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidReference, "the module reference is empty"));
        }
        if let Some(name) = text.strip_prefix("oci://") {
            return OciReference::parse(name).map(Self::Oci);
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return HttpReference::new(text, None, None).map(Self::Http);
        }
        if let Some(path) = text.strip_prefix("file://") {
            let plain = path.starts_with('/') && !path.split('/').any(|segment| matches!(segment, "." | ".."));
            return match plain {
                true => Ok(Self::File(PathBuf::from(path))),
                false => Err(invalid(text, "a file's path must be absolute and plain, `file:///path/module.wasm`")),
            };
        }
        if let Some(package) = text.strip_prefix("wkg:") {
            return WkgReference::parse(package.trim_start_matches("//")).map(Self::Wkg);
        }
        for scheme in ["wapm:", "bindle:"] {
            if text.starts_with(scheme) {
                return Err(unsupported_scheme(scheme.trim_end_matches(':')));
            }
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(invalid(
                text,
                &format!("`{scheme}://` is none of `oci://`, `https://`, `http://`, `wkg:`, `file://`"),
            ));
        }
        OciReference::parse(text).map(Self::Oci)
    }
}

/// The error for a source that is known and not built yet.
pub fn unsupported_scheme(scheme: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("modules from `{scheme}` are not supported by this version"))
        .hint("publish the module to an OCI registry, or name its `https://` URL with a digest")
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

fn invalid(text: &str, why: &str) -> Error {
    let clipped: String = text.chars().take(200).collect();
    Error::new(ErrorKind::InvalidReference, format!("`{clipped}` is not a module reference: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn oci(text: &str) -> OciReference {
        match text.parse().unwrap() {
            Reference::Oci(oci) => oci,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn oci_references_follow_dockers_defaults() {
        let cases = [
            ("oci://ghcr.io/acme/resize:1.4.0", "ghcr.io", "acme/resize", Some("1.4.0")),
            ("ghcr.io/acme/resize", "ghcr.io", "acme/resize", Some("latest")),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000", "a/b", Some("c")),
            ("localhost:5000/m:1", "localhost:5000", "m", Some("1")),
            ("acme/resize:2", "registry-1.docker.io", "acme/resize", Some("2")),
            ("index.docker.io/acme/resize:2", "registry-1.docker.io", "acme/resize", Some("2")),
            ("GHCR.io:443/acme/resize:2", "ghcr.io", "acme/resize", Some("2")),
        ];
        for (text, registry, repository, tag) in cases {
            let reference = oci(text);
            assert_eq!(
                (reference.registry(), reference.repository(), reference.tag()),
                (registry, repository, tag),
                "{text}"
            );
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag_in_any_case() {
        let reference = oci(&format!("ghcr.io/a/b:1@sha256:{}", DIGEST[7..].to_uppercase()));
        assert_eq!(reference.manifest(), DIGEST);
        assert_eq!(reference.tag(), Some("1"));
    }

    #[test]
    fn the_canonical_form_parses_to_the_same() {
        let texts = [
            "oci://ghcr.io/a/b:1".to_owned(),
            format!("oci://ghcr.io/a/b@{DIGEST}"),
            "oci://ghcr.io/a/b:1#path=%2Fapp%2Fa+b.wasm".to_owned(),
            format!("oci://ghcr.io/a/b:1#layer=sha256%3A{}", &DIGEST[7..]),
            format!("https://example.com/m.wasm?x=1#sha256={}", &DIGEST[7..]),
            format!("https://example.com/m.tar.gz#sha256={}&module={DIGEST}", &DIGEST[7..]),
            "wkg:acme:resize@1.4.0".to_owned(),
            "file:///tmp/m.wasm".to_owned(),
        ];
        for text in texts {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn http_needs_one_digest() {
        assert_eq!("https://example.com/m.wasm".parse::<Reference>().unwrap_err().kind(), ErrorKind::Unsupported);
        let other = Digest::of(b"x");
        let both = HttpReference::new(&format!("https://e.com/m#sha256={}", &DIGEST[7..]), Some(other), None);
        assert_eq!(both.unwrap_err().kind(), ErrorKind::InvalidReference);
    }

    #[test]
    fn refuses_with_a_reason() {
        for text in [
            "",
            "oci://",
            "ftp://x/y",
            "file://relative",
            "https://u:p@h/m#sha256=00",
            "a/UPPER",
            "a b",
            "a/b#path=",
            "a/b#x=1",
            "a/b#path=a&layer=b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert_eq!("bindle://x/1.0.0".parse::<Reference>().unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_signed_query_is_not_shown() {
        let reference: Reference = format!("https://h/m?sig=secret#sha256={}", &DIGEST[7..]).parse().unwrap();
        assert_eq!(reference.redacted(), "https://h/m?…");
    }
}
