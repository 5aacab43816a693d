//! References to files on web servers: `https://host/path#sha256=…`

use std::collections::BTreeMap;
use std::fmt;

use net::{authority, display_url};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::{Url, form_urlencoded};

use super::kind::{ContentDigests, ReferenceKind, Syntax, last_segment};
use super::{Reference, invalid};
use crate::{Digest, Error, ErrorKind, PullPolicy};

/// The most headers of a reference.
const MAX_HEADERS: usize = 16;
/// Headers with a secret value. They must not be in a template.
const SECRET: [&str; 8] = [
    "authorization",
    "deploy-token",
    "job-token",
    "private-token",
    "proxy-authorization",
    "x-api-key",
    "x-auth-token",
    "x-jfrog-art-api",
];
/// Further headers that a module's request must not have: headers that the source of modules sets,
/// and `cookie`, which can have secrets.
const RESERVED: [&str; 9] = [
    "accept-encoding",
    "content-type",
    "cookie",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "range",
    "user-agent",
];

/// A module on a web server: its URL, its digests and the headers of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpReference {
    url: Url,
    digest: Option<Digest>,
    module_digest: Option<Digest>,
    headers: BTreeMap<String, String>,
}

impl HttpReference {
    pub(super) const SYNTAX: Syntax = Syntax {
        prefixes: &["https://", "http://"],
        subjects: &["https://", "http://"],
        parse: |text| Self::new(text, None, None).map(Reference::from),
        check_pattern: |_| Ok(()),
    };

    /// Reads a URL. `digest` is the digest of the file, `module_digest` that of the module in an
    /// archive or a compressed file. Both can also be in the fragment of the URL, with headers:
    /// `#sha256=…&module=sha256:…&header=NAME:VALUE`.
    pub fn new(
        address: &str,
        digest: Option<Digest>,
        module_digest: Option<Digest>,
    ) -> Result<Self, Error> {
        // The text is not in the message: it may have a password or a signature.
        let mut url = Url::parse(address).map_err(|error| {
            let message = format!("the module's URL is malformed: {error}");
            Error::new(ErrorKind::InvalidReference, message)
                .with_hint("write it like `https://example.com/resize.wasm`")
                .caused_by(error)
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
        let fragment = Fragment::parse(url.fragment().unwrap_or_default()).ok_or_else(|| {
            invalid(
                &display_url(&url),
                "its fragment must be `#sha256=` and 64 hex digits, or `#module=sha256:…`",
            )
        })?;
        url.set_fragment(None);
        let one = |pinned: Option<Digest>, given: Option<Digest>, key: &str| match (pinned, given) {
            (Some(a), Some(b)) if a != b => Err(invalid(
                &display_url(&url),
                &format!("its fragment and `{key}` name different digests"),
            )),
            (pinned, given) => Ok(pinned.or(given)),
        };
        let digest = one(fragment.digest, digest, "digest")?;
        let module_digest = one(fragment.module, module_digest, "moduleDigest")?;
        Self {
            url,
            digest,
            module_digest,
            headers: BTreeMap::new(),
        }
        .with_headers(&fragment.headers)
    }

    /// Adds headers of the request. They are sent to the origin of the URL, not to the targets of
    /// redirects.
    pub fn with_headers(mut self, headers: &BTreeMap<String, String>) -> Result<Self, Error> {
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            let refused = |why: &str| {
                Err(Error::new(
                    ErrorKind::InvalidReference,
                    format!("the header `{name}` {why}"),
                ))
            };
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
            let Some(parsed) = parsed.filter(|_| HeaderValue::from_str(value).is_ok()) else {
                return refused("is not a valid HTTP header");
            };
            if SECRET.contains(&name.as_str()) {
                return refused(
                    "must not be in a template: put its value into a Secret, and name the Secret \
                     in `authSecret`",
                );
            }
            if net::is_set_by_client(&parsed) || RESERVED.contains(&name.as_str()) {
                return refused("cannot be set in a template");
            }
            self.headers.insert(name, value.clone());
        }
        if self.headers.len() > MAX_HEADERS {
            let message = format!("the module has more than {MAX_HEADERS} headers");
            return Err(Error::new(ErrorKind::InvalidReference, message));
        }
        Ok(self)
    }

    /// The URL, without the fragment.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The digest of the file.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The digest that the module in the file must have.
    pub fn module_digest(&self) -> Option<&Digest> {
        self.module_digest.as_ref()
    }

    /// The headers of the request.
    pub(crate) fn headers(&self) -> HeaderMap {
        let headers = self.headers.iter();
        let pair = |(name, value): (&String, &String)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_str(value).ok()?,
            ))
        };
        headers.filter_map(pair).collect()
    }
}

impl ReferenceKind for HttpReference {
    fn scheme(&self) -> &'static str {
        "http"
    }

    fn canonical(&self) -> String {
        self.to_string()
    }

    fn redacted(&self) -> String {
        display_url(&self.url)
    }

    /// The URL without its fragment. Characters that need no escape are not escaped.
    fn policy_subject(&self) -> String {
        decode_unreserved(self.url.as_str())
    }

    fn server(&self) -> String {
        authority(&self.url)
    }

    fn pinned(&self) -> Option<Digest> {
        self.digest.clone()
    }

    fn pin(&self, artifact: &Digest) -> Option<Reference> {
        let pinned = Self::new(&self.to_string(), Some(artifact.clone()), None);
        pinned.ok().map(Reference::from)
    }

    fn how_to_pin(&self) -> &'static str {
        "add it to the URL, `…#sha256=…`, or as `http.digest`"
    }

    fn accepts(&self, content: &ContentDigests<'_>) -> bool {
        let module = self.module_digest.as_ref();
        self.pinned()
            .is_none_or(|pinned| pinned == *content.first_part)
            && (module.is_none() || module == content.expected_module)
    }

    /// `Always` without a digest: the server is asked whether the file has changed.
    fn default_pull_policy(&self) -> PullPolicy {
        match &self.digest {
            Some(_) => PullPolicy::IfNotPresent,
            None => PullPolicy::Always,
        }
    }

    fn program_name(&self) -> Option<String> {
        last_segment(self.url.path())
    }
}

impl fmt::Display for HttpReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())?;
        let mut separator = '#';
        let mut part = |text: fmt::Arguments<'_>, f: &mut fmt::Formatter<'_>| {
            let before = std::mem::replace(&mut separator, '&');
            write!(f, "{before}{text}")
        };
        if let Some(digest) = &self.digest {
            part(
                format_args!("{}={}", digest.algorithm().name(), digest.hex()),
                f,
            )?;
        }
        if let Some(module) = &self.module_digest {
            part(format_args!("module={module}"), f)?;
        }
        for (name, value) in &self.headers {
            let header = format!("{name}:{value}");
            let header: String = form_urlencoded::byte_serialize(header.as_bytes()).collect();
            part(format_args!("header={header}"), f)?;
        }
        Ok(())
    }
}

/// The fragment of a URL.
#[derive(Default)]
struct Fragment {
    digest: Option<Digest>,
    module: Option<Digest>,
    headers: BTreeMap<String, String>,
}

impl Fragment {
    /// `None` if the fragment is malformed, or has a digest or a header twice.
    fn parse(text: &str) -> Option<Self> {
        let mut fragment = Self::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let before = match &*key {
                "sha256" | "sha512" => fragment
                    .digest
                    .replace(format!("{key}:{value}").parse().ok()?)
                    .map(drop),
                "module" => fragment.module.replace(value.parse().ok()?).map(drop),
                "header" => {
                    let (name, value) = value.split_once(':')?;
                    fragment
                        .headers
                        .insert(name.to_owned(), value.trim().to_owned())
                        .map(drop)
                }
                _ => return None,
            };
            if before.is_some() {
                return None;
            }
        }
        Some(fragment)
    }
}

/// Decodes the escapes of unreserved characters (RFC 3986, 6.2.2.2), so that a rule for `acme` also
/// matches `%61cme`.
fn decode_unreserved(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(c) = byte
            .map(char::from)
            .filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c))
        {
            decoded.push(c);
            decoded.push_str(&part[2..]);
        } else {
            decoded.push('%');
            decoded.push_str(part);
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_and_reserved_headers_are_refused() {
        let reference = HttpReference::new("https://h/m", None, None).unwrap();
        let with = |name: &str, value: &str| {
            reference
                .clone()
                .with_headers(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert_eq!(
            with("Accept", "a/b; q=1").unwrap().to_string(),
            "https://h/m#header=accept%3Aa%2Fb%3B+q%3D1"
        );
        for (name, value) in [
            ("Authorization", "x"),
            ("Host", "x"),
            ("Keep-Alive", "x"),
            ("Trailer", "x"),
            ("Proxy-Connection", "x"),
            ("If-Range", "x"),
            ("a b", "x"),
            ("x", "a\nb"),
            ("Range", "0"),
        ] {
            assert!(with(name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn malformed_and_repeated_fragment_keys_are_refused() {
        for fragment in [
            "sha256=00",
            "module=x",
            "header=x",
            "a=b",
            "header=a:1&header=a:2",
        ] {
            assert!(
                HttpReference::new(&format!("https://h/m#{fragment}"), None, None).is_err(),
                "{fragment}"
            );
        }
    }
}
