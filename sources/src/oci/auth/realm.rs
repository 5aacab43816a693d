//! The realm of a `Bearer` challenge: the URL of a token server.
//!
//! The registry chooses the realm, and a malicious registry could name any server. So credentials
//! are sent only to a token server that is known to belong to the registry: see [`is_trusted`].

use net::{Challenge, authority, split_port};
use url::{Host, Url};

use crate::credentials::Candidate;
use crate::source::Context;
use crate::{Error, ErrorKind};

/// Registries and their token servers, where the host names are unrelated.
const KNOWN_REALMS: [(&str, &str); 3] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("index.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
];
/// Number of characters of a realm that are shown in an error.
const MAX_SHOWN: usize = 100;

/// The URL of the token server in a challenge.
///
/// # Errors
///
/// - The challenge has no usable realm.
/// - The request has credentials, and the realm is not known to belong to the registry.
pub(super) fn realm(
    registry: &str,
    candidate: Option<&Candidate>,
    challenge: &Challenge,
    context: &Context<'_>,
) -> Result<Url, Error> {
    let malformed = |why: &str| {
        Error::new(
            ErrorKind::Protocol,
            format!("registry `{registry}` asks for a token, but its challenge names {why}"),
        )
    };
    let text = challenge
        .parameter("realm")
        .filter(|realm| !realm.is_empty())
        .ok_or_else(|| malformed("no token server (`realm`)"))?;
    let shown: String = text.chars().take(MAX_SHOWN).collect();
    let mut realm = Url::parse(text).map_err(|error| {
        malformed(&format!("the token server `{shown}`, which is not a URL")).caused_by(error)
    })?;
    if !matches!(realm.scheme(), "https" | "http") {
        return Err(malformed(&format!(
            "the token server `{shown}`, which is not an HTTP URL"
        )));
    }
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err(malformed("a token server with a user or a password"));
    }
    realm.set_fragment(None);
    if let Some(candidate) = candidate
        && !is_trusted(registry, &realm, context)
    {
        let host = authority(&realm);
        let message = format!(
            "registry `{registry}` names the token server `{host}`, which is not known to belong to the registry; the credentials of {} were not sent",
            candidate.origin
        );
        return Err(Error::new(ErrorKind::Denied, message).with_hint(format!(
            "if `{host}` belongs to the registry, ask the operator to add `sources.trustedRealms: [\"{host}\"]`"
        )));
    }
    Ok(realm)
}

/// Whether credentials for `registry` may be sent to the token server at `realm`.
///
/// The realm must use HTTPS, unless the registry itself is configured for plain HTTP. Its host must
/// be one of these:
///
/// - the host of the registry;
/// - a subdomain or a parent domain of the registry's host;
/// - the token server of the registry in [`KNOWN_REALMS`];
/// - a host in the operator's `sources.trustedRealms`.
fn is_trusted(registry: &str, realm: &Url, context: &Context<'_>) -> bool {
    let host = realm.host_str().unwrap_or_default();
    let registry_host = split_port(registry).0;
    if realm.scheme() != "https" && !context.http.is_insecure(registry) {
        return false;
    }
    let below = |inner: &str, outer: &str| {
        inner
            .strip_suffix(outer)
            .is_some_and(|rest| rest.ends_with('.'))
            && outer.contains('.')
    };
    let is_name = matches!(realm.host(), Some(Host::Domain(_)));
    host == registry_host
        || (is_name && (below(host, registry_host) || below(registry_host, host)))
        || KNOWN_REALMS.contains(&(registry_host, host))
        || context
            .trusted_realms
            .iter()
            .any(|trusted| trusted == host || *trusted == authority(realm))
}

#[cfg(test)]
mod tests {
    use net::{Hosts, Http};

    use super::*;

    #[test]
    fn credentials_are_sent_to_trusted_realms_only() {
        let http = Http::new(&Hosts::new(["plain:5000".to_owned()]), &[]).unwrap();
        let trusted_realms = [
            "sso.example.com".to_owned(),
            "sso.example.org:8443".to_owned(),
        ];
        let context = Context {
            http: &http,
            keyrings: &[],
            trusted_realms: &trusted_realms,
            skip_mirrors: false,
        };
        let trusted =
            |registry: &str, realm: &str| is_trusted(registry, &realm.parse().unwrap(), &context);
        for (registry, realm) in [
            ("ghcr.io", "https://ghcr.io/token"),
            ("registry-1.docker.io", "https://auth.docker.io/token"),
            ("registry.gitlab.com", "https://gitlab.com/jwt/auth"),
            ("acme.com", "https://auth.acme.com/token"),
            ("r.acme.com:5000", "https://r.acme.com/token"),
            ("r.acme.com", "https://sso.example.com/token"),
            ("r.acme.com", "https://sso.example.org:8443/token"),
            ("plain:5000", "http://plain:5001/token"),
            ("[fd00::1]:5000", "https://[fd00::1]/token"),
        ] {
            assert!(trusted(registry, realm), "{registry} {realm}");
        }
        for (registry, realm) in [
            ("ghcr.io", "https://evil.example/token"),
            ("ghcr.io", "http://ghcr.io/token"),
            ("ghcr.io", "https://evilghcr.io/token"),
            ("a.github.io", "https://b.github.io/token"),
            ("ghcr.io", "https://io/token"),
            ("r.acme.com", "https://sso.example.org/token"),
            ("10.0.0.1", "https://0.0.1/token"),
            (
                "registry-1.docker.io",
                "https://auth.docker.io.evil.example/token",
            ),
            ("ghcr.io", "https://169.254.169.254/token"),
            ("[fd00::1]:5000", "https://[fd00::2]/token"),
        ] {
            assert!(!trusted(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn the_mistake_in_a_realm_is_named() {
        let http = Http::new(&Hosts::default(), &[]).unwrap();
        let context = Context {
            http: &http,
            keyrings: &[],
            trusted_realms: &[],
            skip_mirrors: false,
        };
        for (header, expected) in [
            ("Bearer service=s", "names no token server"),
            ("Bearer realm=\"\"", "names no token server"),
            ("Bearer realm=\"/token\"", "`/token`, which is not a URL"),
            (
                "Bearer realm=\"ftp://h/\"",
                "`ftp://h/`, which is not an HTTP URL",
            ),
            (
                "Bearer realm=\"https://u:hunter2@h/\"",
                "a user or a password",
            ),
        ] {
            let challenge = &Challenge::parse(header)[0];
            let error = realm("r.example", None, challenge, &context).unwrap_err();
            assert!(error.to_string().contains(expected), "{header}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
