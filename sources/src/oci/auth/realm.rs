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
/// Second-level labels under which the domain registries of countries sell names: `co` in `co.uk`,
/// `com` in `com.au`.
const SECOND_LEVEL: [&str; 22] = [
    "ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "govt", "gv", "ltd", "me", "mil", "ne",
    "net", "nhs", "nom", "or", "org", "plc", "sch", "web",
];
/// Domains whose subdomains belong to different customers.
const SHARED_DOMAINS: [&str; 20] = [
    "amazonaws.com",
    "appspot.com",
    "azurecr.io",
    "azurewebsites.net",
    "cloudfront.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "googleapis.com",
    "herokuapp.com",
    "netlify.app",
    "ngrok.app",
    "ngrok.io",
    "onrender.com",
    "pages.dev",
    "run.app",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "workers.dev",
];
const HTTPS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;
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
/// - the host of the registry, or a subdomain or a parent domain of it. A parent domain that
///   several owners share, such as `co.uk`, is not trusted: see [`is_shared`]. The port is the
///   registry's own port, or the port 443 with HTTPS, as for a registry of GitLab. Another port can
///   belong to another user of the machine.
/// - the token server of the registry in [`KNOWN_REALMS`], with HTTPS and the port 443;
/// - a host in the operator's `sources.trustedRealms`, with the port that is listed there. An entry
///   without a port is for the default port of the realm's scheme.
fn is_trusted(registry: &str, realm: &Url, context: &Context<'_>) -> bool {
    let host = realm.host_str().unwrap_or_default();
    let is_plain = context.http.is_insecure(registry);
    let is_https = realm.scheme() == "https";
    if !is_https && !is_plain {
        return false;
    }
    let port = realm.port_or_known_default();
    let on_https_port = is_https && port == Some(HTTPS_PORT);
    let (registry_host, registry_port) = split_port(registry);
    let registry_port = match (registry_port, is_plain) {
        ("", true) => Some(HTTP_PORT),
        ("", false) => Some(HTTPS_PORT),
        (port, _) => port.parse().ok(),
    };
    let below = |inner: &str, outer: &str| {
        inner
            .strip_suffix(outer)
            .is_some_and(|rest| rest.ends_with('.'))
            && outer.contains('.')
    };
    let is_name = matches!(realm.host(), Some(Host::Domain(_)));
    let is_related = host == registry_host
        || (is_name && below(host, registry_host))
        || (is_name && below(registry_host, host) && !is_shared(host));
    (is_related && (on_https_port || port == registry_port))
        || (on_https_port && KNOWN_REALMS.contains(&(registry_host, host)))
        || context.trusted_realms.iter().any(|trusted| {
            let (trusted_host, trusted_port) = split_port(trusted);
            let default = if is_https { HTTPS_PORT } else { HTTP_PORT };
            trusted_host == host && port == Some(trusted_port.parse().unwrap_or(default))
        })
}

/// Whether a domain is a public suffix: its subdomains belong to different owners. The whole list
/// of public suffixes has 10,000 entries and changes weekly. This function knows only top-level
/// domains, usual suffixes of countries ([`SECOND_LEVEL`]), and large providers
/// ([`SHARED_DOMAINS`]).
fn is_shared(domain: &str) -> bool {
    let domain = domain.trim_end_matches('.');
    let of_country = domain
        .split_once('.')
        .is_some_and(|(label, country)| country.len() == 2 && SECOND_LEVEL.contains(&label));
    of_country || !domain.contains('.') || SHARED_DOMAINS.contains(&domain)
}

#[cfg(test)]
mod tests {
    use net::{Hosts, Http};

    use super::*;

    #[test]
    fn credentials_are_sent_to_trusted_realms_only() {
        let insecure = ["plain:5000", "plain.example"].map(str::to_owned);
        let http = Http::new(&Hosts::new(insecure), &[]).unwrap();
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
            ("r.acme.com", "https://acme.com/token"),
            ("r.acme.co.uk", "https://acme.co.uk/token"),
            ("acme.co.uk", "https://auth.acme.co.uk/token"),
            ("r.acme.github.io", "https://acme.github.io/token"),
            ("registry.k8s.io", "https://k8s.io/token"),
            ("r.acme.com:5000", "https://r.acme.com/token"),
            ("r.acme.com", "https://sso.example.com/token"),
            ("r.acme.com", "https://sso.example.org:8443/token"),
            ("r.acme.com", "https://sso.example.com:443/token"),
            ("r.acme.com:5000", "https://r.acme.com:5000/token"),
            ("r.acme.com:443", "https://r.acme.com/token"),
            ("plain:5000", "http://plain:5000/token"),
            ("plain:5000", "http://sso.example.com/token"),
            ("plain.example", "http://plain.example/token"),
            ("plain.example", "http://auth.plain.example:80/token"),
            ("[fd00::1]:5000", "https://[fd00::1]/token"),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/token"),
        ] {
            assert!(trusted(registry, realm), "{registry} {realm}");
        }
        for (registry, realm) in [
            ("ghcr.io", "https://evil.example/token"),
            ("ghcr.io", "http://ghcr.io/token"),
            ("ghcr.io", "https://evilghcr.io/token"),
            ("a.github.io", "https://b.github.io/token"),
            ("ghcr.io", "https://io/token"),
            // Domains that several owners share.
            ("registry.co.uk", "https://attacker.co.uk/token"),
            ("registry.co.uk", "https://co.uk/token"),
            ("registry.co.uk", "https://co.uk./token"),
            ("registry.com.au", "https://com.au/token"),
            ("r.acme.or.jp", "https://or.jp/token"),
            ("acme.github.io", "https://github.io/token"),
            ("acme.azurecr.io", "https://azurecr.io/token"),
            ("r.acme.com", "https://sso.example.org/token"),
            ("10.0.0.1", "https://0.0.1/token"),
            (
                "registry-1.docker.io",
                "https://auth.docker.io.evil.example/token",
            ),
            ("ghcr.io", "https://169.254.169.254/token"),
            ("[fd00::1]:5000", "https://[fd00::2]/token"),
            // Another port of a trusted host.
            ("ghcr.io", "https://ghcr.io:8443/token"),
            ("r.acme.com:5000", "https://r.acme.com:5001/token"),
            ("acme.com", "https://auth.acme.com:8443/token"),
            ("registry-1.docker.io", "https://auth.docker.io:8443/token"),
            ("r.acme.com", "https://sso.example.com:8443/token"),
            ("r.acme.com", "https://sso.example.org:443/token"),
            ("plain:5000", "http://plain:5001/token"),
            ("plain:5000", "http://plain/token"),
            ("plain:5000", "http://plain:443/token"),
            ("plain:5000", "http://sso.example.com:443/token"),
            ("plain.example", "http://plain.example:8080/token"),
            ("[fd00::1]:5000", "https://[fd00::1]:5001/token"),
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
