//! Credentials for a registry: from its challenge to the header of the next request.
//!
//! Protocol: <https://distribution.github.io/distribution/spec/auth/token/>, and `oauth/` beside it for refresh tokens. The realm of a
//! challenge is a URL that the registry made up. It gets credentials only when it is known to belong to the registry; otherwise any
//! registry could have a password sent anywhere.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use net::{Request, authority, sensitive, split_port};
use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::requests::Repository;
use crate::credentials::preemptive::basic;
use crate::credentials::{Candidate, Credential};
use crate::source::Context;
use crate::{Error, ErrorKind};

const MAX_TOKEN_BYTES: u64 = 1 << 20;
const DEFAULT_LIFETIME: u64 = 60;
/// A token is not used in its last seconds, so that it does not end on the way.
const MARGIN: u64 = 5;
/// How long a password that worked is sent without being asked for.
const BASIC_LIFETIME: Duration = Duration::from_mins(5);
const CLIENT_ID: &str = "wasm-workflow-executor";
/// Registries whose token servers have another name.
const KNOWN_REALMS: [(&str, &str); 3] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("index.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
];

/// The repository that a header is for, and the credential that it was made from.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    registry: String,
    repository: String,
    /// The fingerprint of the credential; `None` without one.
    credential: Option<String>,
}

struct Known {
    header: HeaderValue,
    valid_until: Instant,
}

struct Token {
    value: String,
    lifetime: Duration,
}

/// The headers that are now valid.
pub(super) struct Headers {
    /// What tokens are asked for: `pull`, or `pull,push`.
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

/// What a registry wants.
enum Challenge {
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

    /// The header that worked before, or that needs no challenge.
    pub(super) fn known(
        &self,
        repository: Repository<'_>,
        who: Option<&Candidate>,
    ) -> Result<Option<HeaderValue>, Error> {
        if let Some(who) = who {
            match &who.credential {
                Credential::Bearer(token) => {
                    let header = sensitive(&format!("Bearer {}", token.expose_secret()));
                    return header
                        .map(Some)
                        .ok_or_else(|| who.unusable("cannot be sent"));
                }
                Credential::Headers(_) => {
                    return Err(who.unusable("are headers, which registries do not take"));
                }
                Credential::Unobtainable(why) => return Err(who.unusable(why)),
                Credential::Basic { .. } | Credential::Identity(_) => {}
            }
        }
        let mut known = self.known.lock();
        known.retain(|_, known| known.valid_until > Instant::now());
        let known = known.get(&key(repository, who));
        Ok(known.map(|known| known.header.clone()))
    }

    /// The header that `refused`, an answer of 401, asks for. `None` when there is no credential of that kind, or it is wrong.
    pub(super) async fn obtain(
        &self,
        repository: Repository<'_>,
        who: Option<&Candidate>,
        refused: &HeaderMap,
        context: &Context<'_>,
    ) -> Result<Option<HeaderValue>, Error> {
        let (header, lifetime) = match (challenge(refused), who.map(|who| &who.credential)) {
            // It was sent already.
            (_, Some(Credential::Bearer(_))) => return Ok(None),
            (Some(Challenge::Bearer(parameters)), _) => {
                let scope = format!("repository:{}:{}", repository.name, self.actions);
                match token(repository.registry, &scope, who, &parameters, context).await? {
                    Some(token) => {
                        let header = sensitive(&format!("Bearer {}", token.value));
                        (header, token.lifetime)
                    }
                    None => return Ok(None),
                }
            }
            (Some(Challenge::Basic), Some(Credential::Basic { .. })) => {
                (who.and_then(basic), BASIC_LIFETIME)
            }
            _ => return Ok(None),
        };
        if let Some(header) = &header {
            let known = Known {
                header: header.clone(),
                valid_until: Instant::now() + lifetime,
            };
            self.known.lock().insert(key(repository, who), known);
        }
        Ok(header)
    }

    /// The header did not work.
    pub(super) fn forget(&self, repository: Repository<'_>, who: Option<&Candidate>) {
        self.known.lock().remove(&key(repository, who));
    }
}

fn key(repository: Repository<'_>, who: Option<&Candidate>) -> Key {
    Key {
        registry: repository.registry.to_owned(),
        repository: repository.name.to_owned(),
        credential: who.map(|who| who.credential.fingerprint()),
    }
}

/// Fetches a token. `None` when the token server refuses.
async fn token(
    registry: &str,
    scope: &str,
    who: Option<&Candidate>,
    challenge: &HashMap<String, String>,
    context: &Context<'_>,
) -> Result<Option<Token>, Error> {
    let malformed = || {
        Error::new(
            ErrorKind::Protocol,
            format!("registry `{registry}` names no usable token realm"),
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
    if let Some(who) = who
        && !is_trusted(registry, &realm, context)
    {
        let host = authority(&realm);
        let message = format!(
            "registry `{registry}` asks for the credentials of {} at `{host}`, which is not known to belong to it",
            who.origin
        );
        return Err(Error::new(ErrorKind::Denied, message).hint(format!(
            "if it does, the operator lists it: `sources.trustedRealms: [\"{host}\"]`"
        )));
    }
    let request = token_request(realm, challenge.get("service"), scope, who);
    let answer = context.http.send(&request).await?;
    match answer.status.as_u16() {
        200..=299 => {}
        400 | 401 | 403 if who.is_some() => return Ok(None),
        _ => return Err(answer.error(&format!("token for `{scope}`")).into()),
    }
    let bytes = answer
        .bytes(MAX_TOKEN_BYTES, "the registry's token")
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

fn token_request(
    mut realm: Url,
    service: Option<&String>,
    scope: &str,
    who: Option<&Candidate>,
) -> Request {
    if let Some(Candidate {
        credential: Credential::Identity(token),
        ..
    }) = who
    {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", token.expose_secret());
        form.append_pair("client_id", CLIENT_ID)
            .append_pair("scope", scope);
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        return Request::post(
            realm,
            "application/x-www-form-urlencoded",
            form.finish().into(),
        );
    }
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
    }
    Request {
        authorization: who.and_then(basic),
        refuse_redirects: true,
        ..Request::get(realm)
    }
}

/// Whether credentials for `registry` may be sent to `realm`: on the registry's own host, above or below it in the domain, where it is known
/// to be, or where the operator says. Over HTTPS, unless the registry itself is spoken to without.
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

/// The challenge that can be answered; a token before a password.
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

/// Reads `Bearer realm="…",service="…"` (RFC 6750, RFC 9110 section 11.2).
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
    fn reads_challenges() {
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
    fn realms_that_get_credentials() {
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
