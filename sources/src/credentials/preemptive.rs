//! Preemptive authentication: credentials are sent with the first request, without a challenge.
//!
//! Used for web servers, Bindle servers and the Wasmer registry. RFC 9110 allows it in section
//! 11.6.2.

use net::{Http, Request, Response, authority, sensitive};
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use url::Url;

use super::{Candidate, Credential, Keyring, candidates, explain};
use crate::{Error, ErrorKind};

/// The maximum number of credentials that are tried for one request. More wrong passwords would
/// look like an attack to the server.
pub(crate) const MAX_CANDIDATES: usize = 4;

/// The end of the message for a credential with characters that a header must not have.
pub(crate) const INVALID_HEADER: &str = "have characters that are not allowed in an HTTP header";

/// Sends the request with each credential for its URL in turn, until the server accepts one.
/// Without credentials, the request is sent as it is. The response has any status but 401 and 403.
pub(crate) async fn send(
    request: &Request,
    what: &str,
    http: &Http,
    keyrings: &[Keyring],
) -> Result<Response, Error> {
    let answer = send_as_each(request, what, http, keyrings).await;
    answer.map_err(|error| explain(error, keyrings, &target(&request.url)))
}

async fn send_as_each(
    request: &Request,
    what: &str,
    http: &Http,
    keyrings: &[Keyring],
) -> Result<Response, Error> {
    let mut candidates = candidates(keyrings, &target(&request.url));
    candidates.truncate(MAX_CANDIDATES);
    let mut attempts = Vec::new();
    for candidate in &candidates {
        attempts.push(with(request, candidate)?);
    }
    if attempts.is_empty() {
        attempts.push(request.clone());
    }
    let mut refused = None;
    let last = attempts.len() - 1;
    for (number, request) in attempts.iter().enumerate() {
        let answer = http.send(request).await?;
        match answer.status.as_u16() {
            401 | 403 => refused = Some(answer),
            // Some servers return 404 for a resource that the user may not read.
            404 if number < last => {}
            _ => return Ok(answer),
        }
    }
    Err(match refused {
        Some(answer) => self::refused(
            &answer,
            what,
            &candidates,
            "the server may require credentials: name a Secret in the template, or ask the operator to add `sources.credentials`",
        ),
        None => Error::new(
            ErrorKind::Protocol,
            format!("no request for {what} was sent"),
        ),
    })
}

/// The host and path of the URL, for which credentials are searched.
fn target(url: &Url) -> String {
    format!("{}{}", authority(url), url.path())
}

/// The request with the headers of the credential.
fn with(request: &Request, candidate: &Candidate) -> Result<Request, Error> {
    let mut request = request.clone();
    let unusable = || candidate.unusable(INVALID_HEADER);
    match &candidate.credential {
        Credential::Basic { .. } => {
            request.authorization = Some(basic(candidate).ok_or_else(unusable)?);
        }
        Credential::Bearer(token) => {
            let header = sensitive(&format!("Bearer {}", token.expose_secret()));
            request.authorization = Some(header.ok_or_else(unusable)?);
        }
        Credential::Headers(headers) => {
            for (name, value) in headers {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
                if net::is_set_by_client(&name) {
                    let why = format!("have the header `{name}`, which only this program sets");
                    return Err(candidate.unusable(&why));
                }
                request
                    .headers
                    .insert(name, sensitive(value.expose_secret()).ok_or_else(unusable)?);
            }
        }
        Credential::Identity(_) => {
            return Err(candidate
                .unusable("are a refresh token of a registry, which other servers do not accept"));
        }
        Credential::Unobtainable(why) => return Err(candidate.unusable(why)),
    }
    Ok(request)
}

/// The value of `Authorization: Basic …` (RFC 7617). `None` for another kind of credential.
pub(crate) fn basic(candidate: &Candidate) -> Option<HeaderValue> {
    match &candidate.credential {
        Credential::Basic { username, password } => {
            Some(net::basic(username, password.expose_secret()))
        }
        _ => None,
    }
}

/// The error for a response with 401, 403 or 404, after all candidates were `tried`. `hint` is the
/// hint if there were no candidates.
pub(crate) fn refused(answer: &Response, what: &str, tried: &[Candidate], hint: &str) -> Error {
    let error = Error::from(answer.error(what));
    if tried.is_empty() {
        return error.with_hint(hint);
    }
    if answer.status.as_u16() == 404 {
        return error.with_hint("check the name, and check that the credentials allow access");
    }
    let origins = tried
        .iter()
        .map(|candidate| candidate.origin.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    error
        .context(format_args!("with the credentials of {origins}"))
        .with_hint("check that the credentials are correct and allow access")
}
