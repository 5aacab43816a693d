//! References to OCI registries: `oci://host/repository:tag@digest`

use std::fmt;

use oci_spec::distribution::Reference as OciName;
use url::form_urlencoded;

use super::kind::{ReferenceKind, Syntax, last_segment};
use super::pattern::{Pattern, PatternError};
use super::{Reference, invalid, invalid_digest};
use crate::digest::ParseDigestError;
use crate::{Digest, Error, PullPolicy};

/// A module in an OCI registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OciReference {
    name: OciName,
    digest: Option<Digest>,
    select: Option<Select>,
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
        if !name.contains('/') && host.contains('.') {
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
        let text = &canonical_host(text);
        // Registries compare digests as text, so the digits are written in lower case.
        let lowered = text
            .split_once('@')
            .map(|(name, digest)| format!("{name}@{}", digest.to_ascii_lowercase()));
        let name: OciName = lowered
            .as_deref()
            .unwrap_or(text)
            .parse()
            .map_err(|error| {
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
            })?;
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
        Ok(Self {
            name,
            digest,
            select,
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
    let canonical = canonical_host(name);
    if canonical != name {
        let rest = pattern.rest();
        return Err(pattern.error(format!("write this registry as `oci://{canonical}{rest}`")));
    }
    let host = name.split('/').next().unwrap_or_default();
    let is_host = host.contains(['.', ':']) || host == "localhost";
    if !is_host && (name.contains('/') || pattern.is_whole()) && !host.is_empty() {
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

/// The text with the canonical form of its host, so that rules and credentials apply to all
/// spellings of a registry: lower case, without the port of HTTPS, and `docker.io` for Docker Hub.
fn canonical_host(text: &str) -> String {
    let Some((host, rest)) = text.split_once('/') else {
        return text.to_owned();
    };
    if !host.contains(['.', ':']) && !host.eq_ignore_ascii_case("localhost") {
        return text.to_owned();
    }
    let host = host.to_ascii_lowercase();
    // `0443` and `443` are the same port. The port of HTTPS is the default and left out.
    let host = match host.rsplit_once(':') {
        Some((name, port)) => match port.parse::<u16>() {
            Ok(443) => name.to_owned(),
            Ok(port) => format!("{name}:{port}"),
            Err(_) => host,
        },
        None => host,
    };
    // An IPv4 address has many spellings: `127.0.0.1` is also `0x7f.1`.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => format!("{}:{port}", canonical_address(name)),
        _ => canonical_address(&host),
    };
    let host = host.as_str();
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") {
        "docker.io"
    } else {
        host
    };
    format!("{host}/{rest}")
}

/// The host. An IPv4 address is written in its usual form: `127.0.0.1` for `0x7f.1`.
fn canonical_address(host: &str) -> String {
    match url::Host::parse(host) {
        Ok(url::Host::Ipv4(address)) => address.to_string(),
        _ => host.to_owned(),
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.whole())?;
        self.select
            .as_ref()
            .map_or(Ok(()), |select| write!(f, "#{select}"))
    }
}
