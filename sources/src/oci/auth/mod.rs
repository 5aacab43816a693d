//! Authentication to a registry: from its challenge to the `Authorization` header of the next
//! request.
//!
//! 1. The registry answers 401 with challenges in `WWW-Authenticate` (RFC 9110, section 11.6.1).
//! 2. A `Bearer` challenge names the realm, the URL of a token server. The client sends the
//!    credentials to the token server and gets an access token for the scopes of the challenge.
//! 3. The client repeats the request with the token. The token is used until it expires, or until
//!    the registry asks for a token with other scopes.
//!
//! A `Basic` challenge is answered with the username and the password (RFC 7617). If the registry
//! offers both, `Bearer` is tried first.

mod realm;
mod scope;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use net::{Challenge, sensitive};
use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;

use super::repository::Repository;
use crate::credentials::preemptive::{INVALID_HEADER, basic};
use crate::credentials::{Candidate, Credential};
use crate::source::Context;
use crate::{Error, ErrorKind};

/// How long a `Basic` header is sent without a new challenge.
const BASIC_LIFETIME: Duration = Duration::from_mins(5);
/// The maximum number of headers in the cache for one repository and credential.
const MAX_KNOWN: usize = 4;

/// The cache key: the repository and the credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    registry: String,
    repository: String,
    /// The fingerprint of the credential. `None` for anonymous requests.
    credential: Option<String>,
}

/// A header that answers a challenge.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// The scopes of the token. Empty for `Basic`.
    scopes: Vec<String>,
    valid_until: Instant,
    /// Whether the header was obtained for this request. A header of the cache may have been
    /// revoked.
    fresh: bool,
}

/// A cache of the valid `Authorization` headers.
pub(super) struct Headers {
    /// The actions in the scope of tokens: `pull`, or `pull,push`.
    actions: &'static str,
    /// The headers of each key, the last used one at the end.
    known: Mutex<HashMap<Key, Vec<Authorization>>>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers").finish_non_exhaustive()
    }
}

/// Whether the response asks for other credentials or for a token with other scopes: 401, or 403
/// with `insufficient_scope` (RFC 6750, section 3.1).
pub(super) fn is_challenge(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_insufficient = |challenge: &Challenge| {
        challenge.scheme == "bearer" && challenge.parameter("error") == Some("insufficient_scope")
    };
    match status {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN => Challenge::all(headers).iter().any(is_insufficient),
        _ => false,
    }
}

/// Who sends a request to which repository.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) repository: &'a Repository,
    /// The credential. `None` for anonymous requests.
    pub(super) candidate: Option<&'a Candidate>,
    pub(super) context: &'a Context<'a>,
}

impl Client<'_> {
    fn key(&self) -> Key {
        let candidate = self.candidate;
        Key {
            registry: self.repository.registry.clone(),
            repository: self.repository.name.clone(),
            credential: candidate.map(|candidate| candidate.credential.fingerprint()),
        }
    }
}

impl Headers {
    pub(super) fn for_actions(actions: &'static str) -> Self {
        Self {
            actions,
            known: Mutex::default(),
        }
    }

    /// The last used header of the cache, or the header of a credential that needs no challenge.
    pub(super) fn known(&self, client: Client<'_>) -> Result<Option<Authorization>, Error> {
        if let Some(candidate) = client.candidate {
            match &candidate.credential {
                Credential::Bearer(token) => {
                    let header = sensitive(&format!("Bearer {}", token.expose_secret()))
                        .ok_or_else(|| candidate.unusable(INVALID_HEADER))?;
                    return Ok(Some(Authorization {
                        header,
                        scopes: Vec::new(),
                        valid_until: Instant::now(),
                        fresh: false,
                    }));
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
        known.retain(|_, headers| {
            headers.retain(|header| header.valid_until > Instant::now());
            !headers.is_empty()
        });
        let headers = known.get(&client.key());
        Ok(headers.and_then(|headers| headers.last()).cloned())
    }

    /// Obtains the header for the challenges in `refused`, the headers of a response. `sent` is the
    /// header that the registry has just rejected.
    ///
    /// Returns `None` if the credential does not fit the challenges, if the token server rejects
    /// the credential, or if the header would be the rejected one.
    pub(super) async fn obtain(
        &self,
        client: Client<'_>,
        refused: &HeaderMap,
        sent: Option<&Authorization>,
    ) -> Result<Option<Authorization>, Error> {
        let credential = client.candidate.map(|candidate| &candidate.credential);
        // The registry has just rejected the token.
        if matches!(credential, Some(Credential::Bearer(_))) {
            return Ok(None);
        }
        self.forget(client, sent);
        let mut failed = None;
        let challenges = Challenge::all(refused);
        let scheme = |name: &'static str| challenges.iter().filter(move |one| one.scheme == name);
        for challenge in scheme("bearer") {
            match self.bearer(client, challenge, sent).await {
                Ok(Some(header)) => return Ok(Some(header)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let header = client.candidate.and_then(basic);
        if let Some(header) = header.filter(|_| scheme("basic").next().is_some()) {
            if sent.is_some_and(|sent| sent.header == header) {
                return Ok(None);
            }
            let valid_until = Instant::now() + BASIC_LIFETIME;
            return Ok(Some(self.remember(
                client,
                Authorization {
                    header,
                    scopes: Vec::new(),
                    valid_until,
                    fresh: true,
                },
            )));
        }
        match failed {
            Some(error) => Err(error),
            None => supported(&client.repository.registry, &challenges).map(|()| None),
        }
    }

    /// Obtains a token for a `Bearer` challenge, from the cache or from the token server.
    async fn bearer(
        &self,
        client: Client<'_>,
        challenge: &Challenge,
        sent: Option<&Authorization>,
    ) -> Result<Option<Authorization>, Error> {
        let Client {
            repository,
            candidate,
            context,
        } = client;
        let was_refused =
            |scopes: &[String]| sent.is_some_and(|sent| sent.fresh && sent.scopes == scopes);
        let mut scopes = scope::wanted(challenge, repository, self.actions);
        if was_refused(&scopes) {
            // The token had more actions than the challenge names, or is not enough.
            scopes = scope::named(challenge);
        }
        if scopes.is_empty() || was_refused(&scopes) {
            return Ok(None);
        }
        if let Some(known) = self.with_scopes(client, &scopes) {
            return Ok(Some(self.remember(client, known)));
        }
        let realm = realm::realm(&repository.registry, candidate, challenge, context)?;
        let server = net::authority(&realm);
        let service = challenge.parameter("service");
        let Some(token) = token::fetch(realm, service, &scopes, candidate, context).await? else {
            return Ok(None);
        };
        let header = sensitive(&format!("Bearer {}", token.value)).ok_or_else(|| {
            let message = format!(
                "the token server `{server}` sends a token with characters that are not allowed in an HTTP header"
            );
            Error::new(ErrorKind::Protocol, message)
        })?;
        let valid_until = Instant::now() + token.lifetime;
        Ok(Some(self.remember(
            client,
            Authorization {
                header,
                scopes,
                valid_until,
                fresh: true,
            },
        )))
    }

    /// The token of the cache with these scopes.
    fn with_scopes(&self, client: Client<'_>, scopes: &[String]) -> Option<Authorization> {
        let known = self.known.lock();
        let mut headers = known.get(&client.key())?.iter();
        headers.find(|known| known.scopes == scopes).cloned()
    }

    /// Makes the header the last used one of the cache.
    fn remember(&self, client: Client<'_>, header: Authorization) -> Authorization {
        let mut known = self.known.lock();
        let headers = known.entry(client.key()).or_default();
        headers.retain(|other| other.scopes != header.scopes);
        if headers.len() == MAX_KNOWN {
            headers.remove(0);
        }
        headers.push(Authorization {
            fresh: false,
            ..header.clone()
        });
        header
    }

    /// Removes a header that the registry rejected from the cache.
    fn forget(&self, client: Client<'_>, sent: Option<&Authorization>) {
        let mut known = self.known.lock();
        if let (Some(headers), Some(sent)) = (known.get_mut(&client.key()), sent) {
            headers.retain(|known| known.header != sent.header);
        }
    }
}

/// Checks that the registry offers a scheme that this program supports, or no scheme at all.
fn supported(registry: &str, challenges: &[Challenge]) -> Result<(), Error> {
    let is_supported = |challenge: &Challenge| matches!(&*challenge.scheme, "bearer" | "basic");
    if challenges.is_empty() || challenges.iter().any(is_supported) {
        return Ok(());
    }
    let schemes = challenges.iter().take(5).map(|challenge| {
        let name: String = challenge.scheme.chars().take(40).collect();
        format!("`{name}`")
    });
    let schemes = schemes.collect::<Vec<_>>().join(", ");
    let message = format!(
        "registry `{registry}` wants authentication by {schemes}; only `Bearer` and `Basic` are supported"
    );
    Err(Error::new(ErrorKind::Unsupported, message))
}
