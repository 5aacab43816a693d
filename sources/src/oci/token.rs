//! Anonymous tokens: even public repositories of the large registries want one.
//!
//! Protocol: <https://distribution.github.io/distribution/spec/auth/token/>. The realm is a URL that the registry made up;
//! it is asked without credentials, and the guarded client refuses addresses that no registry should name.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use url::Url;

use crate::reference::OciReference;
use crate::source::Context;
use crate::transport::{Answer, Request};
use crate::{Error, ErrorKind};

const MAX_TOKEN_BYTES: u64 = 1 << 20;
const DEFAULT_LIFETIME: u64 = 60;
/// A token is not used in its last seconds, so that it does not end on the way.
const MARGIN: u64 = 5;

/// The tokens now valid, by registry and repository.
#[derive(Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<(String, String), (String, Instant)>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn known(&self, registry: &str, repository: &str) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, until)| *until > Instant::now());
        known.get(&(registry.to_owned(), repository.to_owned())).map(|(token, _)| token.clone())
    }

    /// Fetches the token that `refused`, an answer of 401, asks for. `None` when it asks for something else.
    pub(super) async fn fetch(
        &self,
        oci: &OciReference,
        refused: &Answer,
        context: &Context<'_>,
    ) -> Result<Option<String>, Error> {
        let Some(challenge) =
            refused.headers.get_all(WWW_AUTHENTICATE).iter().find_map(|value| bearer(value.to_str().ok()?))
        else {
            return Ok(None);
        };
        let malformed =
            || Error::new(ErrorKind::Protocol, format!("registry `{}` names no usable token realm", oci.registry()));
        let mut url =
            Url::parse(challenge.get("realm").ok_or_else(malformed)?).map_err(|error| malformed().caused_by(error))?;
        if !matches!(url.scheme(), "https" | "http") || !url.username().is_empty() || url.password().is_some() {
            return Err(malformed());
        }
        url.set_fragment(None);
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = challenge.get("service") {
                query.append_pair("service", service);
            }
            query.append_pair("scope", &format!("repository:{}:pull", oci.repository()));
        }
        let answer = context.http.send(&Request::get(url)).await?;
        if !answer.status.is_success() {
            return Err(answer.error(&format!("token for `{}`", oci.repository())));
        }
        let bytes = answer.bytes(MAX_TOKEN_BYTES, "the registry's token").await?;
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        let Some(token) = answer.token.or(answer.access_token).filter(|token| !token.is_empty()) else {
            return Err(malformed());
        };
        let lifetime = answer.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(MARGIN, 3600) - MARGIN;
        let until = Instant::now() + Duration::from_secs(lifetime);
        let key = (oci.registry().to_owned(), oci.repository().to_owned());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (token.clone(), until));
        Ok(Some(token))
    }
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
    use super::*;

    #[test]
    fn reads_challenges() {
        let parameters = bearer(r#"Bearer realm="https://auth.example/token",service="r, x",scope=a"#).unwrap();
        assert_eq!(parameters["realm"], "https://auth.example/token");
        assert_eq!(parameters["service"], "r, x");
        assert_eq!(parameters["scope"], "a");
        assert!(bearer(r#"Basic realm="x""#).is_none());
        assert!(bearer("Bearer").is_none());
        assert!(bearer(r#"Bearer realm="never closed"#).is_none());
    }
}
