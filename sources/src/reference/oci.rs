//! References to OCI registries: `oci://host/repository:tag@digest`

use std::fmt;
use std::hash::{Hash, Hasher};

use net::{Authority, AuthorityError};
use oci_spec::distribution::{ParseError, Reference as OciName};
use url::form_urlencoded;

use super::kind::{ReferenceKind, Syntax, last_segment};
use super::pattern::{Pattern, PatternError};
use super::{Reference, invalid, invalid_digest};
use crate::digest::ParseDigestError;
use crate::{Digest, Error, PullPolicy};

/// A module in an OCI registry. `alpine` and `docker.io/library/alpine` are equal.
#[derive(Clone, Debug)]
pub struct OciReference {
    name: OciName,
    digest: Option<Digest>,
    select: Option<Select>,
    /// Whether the text of the reference names the registry. Not compared.
    names_registry: bool,
}

impl PartialEq for OciReference {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.digest == other.digest && self.select == other.select
    }
}

impl Eq for OciReference {}

impl Hash for OciReference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.digest.hash(state);
        self.select.hash(state);
    }
}

/// The choice of one of several modules in an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// The path of a file in an image.
    Path(String),
    /// The digest, title or number of a layer, or the name of a component of a Spin application.
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
        write!(
            f,
            "{key}={}",
            form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>()
        )
    }
}

/// The mistake in the digest behind the `@`, if the text has a digest with a mistake.
fn digest_error(text: &str) -> Option<ParseDigestError> {
    let (_, digest) = text.split_once('@')?;
    match digest.starts_with("sha") {
        true => digest.parse::<Digest>().err(),
        // The `@` belongs to something else, such as a user name.
        false => None,
    }
}

/// Reads a name as Docker does. A host in brackets is an IPv6 address, which the parser of the
/// library does not know.
fn parse_name(text: &str) -> Result<OciName, ParseError> {
    let Some((host, rest)) = text
        .split_once('/')
        .filter(|(host, _)| host.starts_with('['))
    else {
        return text.parse();
    };
    let name: OciName = format!("localhost/{rest}").parse()?;
    let registry = host.to_owned();
    let repository = name.repository().to_owned();
    Ok(match (name.tag(), name.digest()) {
        (Some(tag), Some(digest)) => {
            OciName::with_tag_and_digest(registry, repository, tag.to_owned(), digest.to_owned())
        }
        (None, Some(digest)) => OciName::with_digest(registry, repository, digest.to_owned()),
        (tag, None) => OciName::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
    })
}

/// The error for a text that is not the name of a module in a registry.
fn malformed(text: &str, error: ParseError) -> Error {
    if let Some(error) = digest_error(text) {
        return invalid_digest(text, error);
    }
    if text.starts_with(['.', '/']) {
        return invalid(
            text,
            "the path of a file must be absolute and start with `file://`",
        )
        .with_hint("write it like `file:///modules/resize.wasm`");
    }
    let repository = text.split_once('/').map_or("", |(_, path)| {
        path.split([':', '@']).next().unwrap_or(path)
    });
    let why = match repository.chars().any(char::is_uppercase) {
        true => "repository names must be in lower case",
        false => "it must look like `ghcr.io/acme/resize:1.4.0`",
    };
    invalid(text, why).caused_by(error)
}

/// Checks the host before the first slash, if it is an IPv6 address.
fn check_address(text: &str) -> Result<(), Error> {
    let host = text.split(['/', '@']).next().unwrap_or_default();
    match host.parse::<Authority>() {
        Err(error @ (AuthorityError::Brackets | AuthorityError::Zone)) => {
            Err(invalid(text, &error.to_string()).caused_by(error))
        }
        Err(error) if host.starts_with('[') => {
            Err(invalid(text, &error.to_string()).caused_by(error))
        }
        Ok(_) if host.starts_with('[') && !text.contains('/') => {
            Err(invalid(text, "the repository is missing"))
        }
        _ => Ok(()),
    }
}

impl OciReference {
    pub(super) const SYNTAX: Syntax = Syntax {
        prefixes: &["oci://"],
        subjects: &["oci://"],
        parse: |text| Self::from_uri(text).map(Reference::from),
        check_pattern,
    };

    fn from_uri(text: &str) -> Result<Self, Error> {
        let name = text.strip_prefix("oci://").unwrap_or(text);
        if name.is_empty() {
            return Err(invalid(
                text,
                "it must look like `oci://ghcr.io/acme/resize:1.4.0`",
            ));
        }
        let host = name.split(':').next().unwrap_or_default();
        // Without this check, a registry alone would be read as a repository of Docker Hub.
        if !name.contains('/') && (host.contains('.') || name.starts_with('[')) {
            return Err(invalid(
                text,
                "the repository is missing, `oci://HOST/REPOSITORY:TAG`",
            ));
        }
        Self::parse(name)
    }

    /// Reads `[host[:port]/]repository[:tag][@digest][#path=…|#layer=…]`, with the defaults of
    /// Docker (Docker Hub, `latest`).
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (text, select) = match text.split_once('#') {
            Some((name, fragment)) => {
                let select = Select::parse(fragment);
                (
                    name,
                    Some(select.ok_or_else(|| {
                        invalid(text, "its fragment must be `#path=…` or `#layer=…`")
                    })?),
                )
            }
            None => (text, None),
        };
        check_address(text)?;
        let text = &canonical_host(text);
        // Registries compare digests as text, so the digits are written in lower case.
        let lowered = text
            .split_once('@')
            .map(|(name, digest)| format!("{name}@{}", digest.to_ascii_lowercase()));
        let name = lowered.as_deref().unwrap_or(text);
        let name = parse_name(name).map_err(|error| malformed(text, error))?;
        // The parser reads `Upper/a` as a repository of Docker Hub with an upper-case name.
        if name.repository().chars().any(char::is_uppercase) {
            return Err(invalid(text, "repository names must be in lower case"));
        }
        let digest = match name.digest() {
            Some(digest) => Some(
                digest
                    .parse()
                    .map_err(|error| invalid_digest(text, error))?,
            ),
            None => None,
        };
        let registry = text.split_once('/').map(|(registry, _)| registry);
        Ok(Self {
            name,
            digest,
            select,
            names_registry: registry.is_some_and(is_registry),
        })
    }

    /// Chooses one of several modules.
    #[must_use]
    pub fn with_select(self, select: Select) -> Self {
        Self {
            select: Some(select),
            ..self
        }
    }

    /// The reference with this digest and without a tag.
    #[must_use]
    pub(crate) fn at(self, digest: Digest) -> Self {
        let registry = self.name.registry().to_owned();
        let repository = self.name.repository().to_owned();
        Self {
            name: OciName::with_digest(registry, repository, digest.to_string()),
            digest: Some(digest),
            ..self
        }
    }

    /// The choice of one of several modules.
    pub fn select(&self) -> Option<&Select> {
        self.select.as_ref()
    }

    /// The host and port of requests. For Docker Hub, the host of its API.
    pub fn registry(&self) -> &str {
        match self.name.resolve_registry() {
            "index.docker.io" => "registry-1.docker.io",
            registry => registry,
        }
    }

    /// The name of the registry: `docker.io` for Docker Hub.
    pub fn host(&self) -> &str {
        self.name.registry()
    }

    /// Whether the text of the reference names no registry. The registry is then Docker Hub.
    pub(crate) fn implies_docker_hub(&self) -> bool {
        !self.names_registry
    }

    /// The repository, without the registry.
    pub fn repository(&self) -> &str {
        self.name.repository()
    }

    /// The tag, if the reference names or implies one.
    pub fn tag(&self) -> Option<&str> {
        self.name.tag()
    }

    /// The digest of the manifest, if the reference names one. The tag is then ignored.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The digest or the tag, for the path of a request for the manifest.
    pub fn manifest(&self) -> String {
        match (&self.digest, self.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        }
    }
}

impl ReferenceKind for OciReference {
    fn scheme(&self) -> &'static str {
        "oci"
    }

    fn server(&self) -> String {
        self.registry().to_owned()
    }

    fn pinned(&self) -> Option<Digest> {
        self.digest.clone()
    }

    fn pin(&self, artifact: &Digest) -> Option<Reference> {
        Some(self.clone().at(artifact.clone()).into())
    }

    fn how_to_pin(&self) -> &'static str {
        "add it to the reference, `…@sha256:…`"
    }

    /// `Always` for the tag `latest` or no tag, as in Kubernetes.
    fn default_pull_policy(&self) -> PullPolicy {
        match (&self.digest, self.tag()) {
            (None, None | Some("latest")) => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        }
    }

    fn program_name(&self) -> Option<String> {
        last_segment(self.repository())
    }
}

/// Checks that a pattern has the canonical form of a registry, and a tag or a digest.
fn check_pattern(pattern: &Pattern<'_>) -> Result<(), PatternError> {
    let Some(name) = pattern.start.strip_prefix("oci://") else {
        return Ok(());
    };
    let host = name.split('/').next().unwrap_or_default();
    if host.starts_with('[')
        && (pattern.is_whole() || name.contains('/'))
        && let Err(error) = host.parse::<Authority>()
    {
        return Err(pattern.error(error.to_string()));
    }
    let canonical = canonical_host(name);
    if canonical != name {
        let rest = pattern.rest();
        return Err(pattern.error(format!("write this registry as `oci://{canonical}{rest}`")));
    }
    if !is_registry(host) && (name.contains('/') || pattern.is_whole()) && !host.is_empty() {
        return Err(pattern.error("write references to Docker Hub as `oci://docker.io/…`"));
    }
    let last = name.rsplit('/').next().unwrap_or_default();
    if pattern.is_whole() && !last.contains([':', '@']) {
        let text = pattern.text;
        return Err(pattern.error(format!(
            "the pattern must match a tag or a digest, too; write `{text}:*`"
        )));
    }
    Ok(())
}

/// The canonical name of a registry, `host` or `host:port`.
pub fn canonical_registry(registry: &str) -> String {
    let name = canonical_host(&format!("{}/", registry.trim()));
    name.trim_end_matches('/').to_owned()
}

/// Whether the text before the first slash of a reference is a registry, as in Docker. Any other
/// text is a part of a repository on Docker Hub.
fn is_registry(text: &str) -> bool {
    text.contains(['.', ':']) || text.eq_ignore_ascii_case("localhost")
}

/// The text with the canonical form of its host, so that rules and credentials apply to all
/// spellings of a registry: lower case, IP addresses in their usual form, without the port of
/// HTTPS, and `docker.io` for Docker Hub.
fn canonical_host(text: &str) -> String {
    let Some((host, rest)) = text.split_once('/') else {
        return text.to_owned();
    };
    if !is_registry(host) {
        return text.to_owned();
    }
    let Ok(authority) = host.parse::<Authority>() else {
        return format!("{}/{rest}", host.to_ascii_lowercase());
    };
    // Port 443 is the default port of HTTPS.
    let host = authority.without_https_port().to_string();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    format!("{host}/{rest}")
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.whole())?;
        self.select
            .as_ref()
            .map_or(Ok(()), |select| write!(f, "#{select}"))
    }
}
