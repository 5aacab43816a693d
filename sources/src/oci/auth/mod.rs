//! Authentication to a registry: from its challenge to the `Authorization` header of the next
//! request.
//!
//! 1. The registry answers 401 with a challenge in `WWW-Authenticate` (RFC 9110, section 11.6.1).
//! 2. A `Bearer` challenge names the realm, the URL of a token server. The client sends the
//!    credentials to the token server and gets an access token for the scope
//!    `repository:NAME:ACTIONS`.
//! 3. The client repeats the request with the token. The token is used until it expires.
//!
//! A `Basic` challenge is answered with the username and the password (RFC 7617).
//!
//! The registry chooses the realm, and a malicious registry could name any server. So credentials
//! are sent only to a token server that is known to belong to the registry: see [`is_trusted`].
//!
//! The protocol is in <https://distribution.github.io/distribution/spec/auth/token/>, and for
//! refresh tokens in <https://distribution.github.io/distribution/spec/auth/oauth/>.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use net::{Request, authority, sensitive, split_port};
use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::repository::Repository;
use crate::credentials::preemptive::{INVALID_HEADER, basic};
use crate::credentials::{Candidate, Credential};
use crate::source::Context;
use crate::{Error, ErrorKind};

const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// The lifetime in seconds of a token without `expires_in`, as the protocol defines it.
const DEFAULT_LIFETIME: u64 = 60;
/// Seconds before its expiry in which a token is not used: it could expire in transit.
const MARGIN: u64 = 5;
/// How long a `Basic` header is sent without a new challenge.
const BASIC_LIFETIME: Duration = Duration::from_mins(5);
const CLIENT_ID: &str = "wasm-workflow-executor";
/// Registries and their token servers, where the host names are unrelated.
const KNOWN_REALMS: [(&str, &str); 3] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("index.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
];

/// The cache key of a header: the repository and the credential.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    registry: String,
    repository: String,
    /// The fingerprint of the credential. `None` for anonymous requests.
    credential: Option<String>,
}

/// A header in the cache.
struct Known {
    header: HeaderValue,
    valid_until: Instant,
}

/// An access token of a token server.
struct Token {
    value: String,
    lifetime: Duration,
}

/// A cache of the valid `Authorization` headers.
pub(super) struct Headers {
    /// The actions in the scope of tokens: `pull`, or `pull,push`.
    actions: &'static str,
    known: Mutex<HashMap<Key, Known>>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// A challenge in `WWW-Authenticate`.
enum Challenge {
    /// `Bearer`, with its parameters.
    Bearer(HashMap<String, String>),
    Basic,
}

impl Headers {
    pub(super) fn for_actions(actions: &'static str) -> Self {
        Self {
            actions,
            known: Mutex::default(),
        }
    }

    /// The header of the cache, or the header of a credential that needs no challenge.
    pub(super) fn known(
        &self,
        repository: Repository<'_>,
        candidate: Option<&Candidate>,
    ) -> Result<Option<HeaderValue>, Error> {
        if let Some(candidate) = candidate {
            match &candidate.credential {
                Credential::Bearer(token) => {
                    let header = sensitive(&format!("Bearer {}", token.expose_secret()));
                    return header
                        .map(Some)
                        .ok_or_else(|| candidate.unusable(INVALID_HEADER));
                }
                Credential::Headers(_) => {
                    return Err(
                        candidate.unusable("are HTTP headers, which registries do not accept")
                    );
                }
                Credential::Unobtainable(why) => return Err(candidate.unusable(why)),
                Credential::Basic { .. } | Credential::Identity(_) => {}
            }
        }
        let mut known = self.known.lock();
        known.retain(|_, known| known.valid_until > Instant::now());
        let known = known.get(&key(repository, candidate));
        Ok(known.map(|known| known.header.clone()))
    }

    /// Obtains the header for the challenge in `refused`, the headers of a 401 response.
    ///
    /// Returns `None` if the credential does not fit the challenge, or if the token server rejects
    /// the credential.
    pub(super) async fn obtain(
        &self,
        repository: Repository<'_>,
        candidate: Option<&Candidate>,
        refused: &HeaderMap,
        context: &Context<'_>,
    ) -> Result<Option<HeaderValue>, Error> {
        let credential = candidate.map(|candidate| &candidate.credential);
        let (header, lifetime) = match (challenge(refused), credential) {
            // The registry has just rejected the token.
            (_, Some(Credential::Bearer(_))) => return Ok(None),
            (Some(Challenge::Bearer(parameters)), _) => {
                let scope = format!("repository:{}:{}", repository.name, self.actions);
                match token(repository.registry, &scope, candidate, &parameters, context).await? {
                    Some(token) => {
                        let header = sensitive(&format!("Bearer {}", token.value));
                        (header, token.lifetime)
                    }
                    None => return Ok(None),
                }
            }
            (Some(Challenge::Basic), Some(Credential::Basic { .. })) => {
                (candidate.and_then(basic), BASIC_LIFETIME)
            }
            _ => return Ok(None),
        };
        if let Some(header) = &header {
            let known = Known {
                header: header.clone(),
                valid_until: Instant::now() + lifetime,
            };
            self.known.lock().insert(key(repository, candidate), known);
        }
        Ok(header)
    }

    /// Removes a header that the registry rejected from the cache.
    pub(super) fn forget(&self, repository: Repository<'_>, candidate: Option<&Candidate>) {
        self.known.lock().remove(&key(repository, candidate));
    }
}

fn key(repository: Repository<'_>, candidate: Option<&Candidate>) -> Key {
    Key {
        registry: repository.registry.to_owned(),
        repository: repository.name.to_owned(),
        credential: candidate.map(|candidate| candidate.credential.fingerprint()),
    }
}

/// The URL of the token server in a challenge.
///
/// # Errors
///
/// - The challenge has no usable realm.
/// - The request has credentials, and the realm is not known to belong to the registry.
fn realm(
    registry: &str,
    candidate: Option<&Candidate>,
    challenge: &HashMap<String, String>,
    context: &Context<'_>,
) -> Result<Url, Error> {
    let malformed = || {
        Error::new(
            ErrorKind::Protocol,
            format!("registry `{registry}` names no valid token server"),
        )
    };
    let realm = challenge.get("realm").ok_or_else(malformed)?;
    let mut realm = Url::parse(realm).map_err(|error| malformed().caused_by(error))?;
    if !matches!(realm.scheme(), "https" | "http")
        || !realm.username().is_empty()
        || realm.password().is_some()
    {
        return Err(malformed());
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

/// Fetches an access token for the scope. `None` if the token server rejects the credential.
async fn token(
    registry: &str,
    scope: &str,
    candidate: Option<&Candidate>,
    challenge: &HashMap<String, String>,
    context: &Context<'_>,
) -> Result<Option<Token>, Error> {
    let realm = realm(registry, candidate, challenge, context)?;
    let request = token_request(realm, challenge.get("service"), scope, candidate);
    let answer = context.http.send(&request).await?;
    match answer.status.as_u16() {
        200..=299 => {}
        400 | 401 | 403 if candidate.is_some() => return Ok(None),
        _ => return Err(answer.error(&format!("token for `{scope}`")).into()),
    }
    let malformed = || {
        Error::new(
            ErrorKind::Protocol,
            format!("the token server of registry `{registry}` sends no usable token"),
        )
    };
    let bytes = answer
        .bytes(MAX_TOKEN_BYTES, "the token of the registry")
        .await?;
    let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    let token = answer
        .token
        .or(answer.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(malformed)?;
    let lifetime = answer
        .expires_in
        .unwrap_or(DEFAULT_LIFETIME)
        .clamp(MARGIN, 3600)
        - MARGIN;
    Ok(Some(Token {
        value: token,
        lifetime: Duration::from_secs(lifetime),
    }))
}

/// The request for an access token: `POST` with a refresh token, `GET` otherwise.
fn token_request(
    mut realm: Url,
    service: Option<&String>,
    scope: &str,
    candidate: Option<&Candidate>,
) -> Request {
    if let Some(Candidate {
        credential: Credential::Identity(token),
        ..
    }) = candidate
    {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", token.expose_secret());
        form.append_pair("client_id", CLIENT_ID)
            .append_pair("scope", scope);
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        return Request {
            refuse_redirects: true,
            ..Request::post(
                realm,
                "application/x-www-form-urlencoded",
                form.finish().into(),
            )
        };
    }
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
    }
    Request {
        authorization: candidate.and_then(basic),
        refuse_redirects: true,
        ..Request::get(realm)
    }
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
    let is_name = host.parse::<std::net::IpAddr>().is_err();
    host == registry_host
        || (is_name && (below(host, registry_host) || below(registry_host, host)))
        || KNOWN_REALMS.contains(&(registry_host, host))
        || context
            .trusted_realms
            .iter()
            .any(|trusted| trusted == host || *trusted == authority(realm))
}

/// The first supported challenge. `Bearer` is preferred to `Basic`.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts: Vec<&str> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let bearer = texts
        .iter()
        .find_map(|text| bearer(text))
        .map(Challenge::Bearer);
    bearer.or_else(|| {
        texts
            .iter()
            .any(|text| scheme(text).eq_ignore_ascii_case("basic"))
            .then_some(Challenge::Basic)
    })
}

fn scheme(header: &str) -> &str {
    header.trim().split(' ').next().unwrap_or_default()
}

/// The parameters of `Bearer realm="…",service="…"` (RFC 6750, section 3; RFC 9110, section 11.2).
/// `None` for another scheme or a malformed header.
fn bearer(header: &str) -> Option<HashMap<String, String>> {
    let (scheme, mut rest) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut parameters = HashMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.insert(name, value.to_owned());
        rest = after;
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use net::{Hosts, Http};

    use super::*;

    #[test]
    fn bearer_challenges_are_parsed() {
        let parameters =
            bearer(r#"Bearer realm="https://auth.example/token",service="r, x",scope=a"#).unwrap();
        assert_eq!(parameters["realm"], "https://auth.example/token");
        assert_eq!(parameters["service"], "r, x");
        assert_eq!(parameters["scope"], "a");
        assert!(bearer(r#"Basic realm="x""#).is_none());
        assert!(bearer("Bearer").is_none());
        assert!(bearer(r#"Bearer realm="never closed"#).is_none());
    }

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
        ] {
            assert!(!trusted(registry, realm), "{registry} {realm}");
        }
    }
}
