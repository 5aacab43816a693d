//! Credentials that are sent with a request at once, where no protocol asks for them first: to web servers, Bindle servers and the Wasmer
//! registry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use net::{Http, Request, Response, authority, sensitive};
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use url::Url;

use super::{Candidate, Credential, Keyring, candidates};
use crate::{Error, ErrorKind};

/// More wrong passwords than that look like an attack.
pub(crate) const MAX_CANDIDATES: usize = 4;

/// Sends the request with each credential for its URL in turn, until the server accepts one. Without
/// credentials, the request is sent as it is. The response has any status but 401 and 403.
pub(crate) async fn send(
    request: &Request,
    what: &str,
    http: &Http,
    keyrings: &[Keyring],
) -> Result<Response, Error> {
    let candidates = candidates_for(&request.url, keyrings);
    let mut asking = Vec::new();
    for candidate in &candidates {
        asking.push(with(request, candidate)?);
    }
    if asking.is_empty() {
        asking.push(request.clone());
    }
    let mut refused = None;
    let last = asking.len() - 1;
    for (number, request) in asking.iter().enumerate() {
        let answer = http.send(request).await?;
        match answer.status.as_u16() {
            401 | 403 => refused = Some(answer),
            // Some say of what one may not see that it is not there.
            404 if number < last => {}
            _ => return Ok(answer),
        }
    }
    Err(match refused {
        Some(answer) => self::refused(
            &answer,
            what,
            &candidates,
            "it may need credentials: name a Secret in the template, or the operator adds `sources.credentials`",
        ),
        None => Error::new(ErrorKind::Protocol, format!("nobody was asked for {what}")),
    })
}

fn candidates_for(url: &Url, keyrings: &[Keyring]) -> Vec<Candidate> {
    let target = format!("{}{}", authority(url), url.path());
    let mut candidates = candidates(keyrings, &target);
    candidates.truncate(MAX_CANDIDATES);
    candidates
}

fn with(request: &Request, candidate: &Candidate) -> Result<Request, Error> {
    let mut request = request.clone();
    let unusable = || candidate.unusable("cannot be sent");
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
                request
                    .headers
                    .insert(name, sensitive(value.expose_secret()).ok_or_else(unusable)?);
            }
        }
        Credential::Identity(_) => {
            return Err(candidate.unusable("are a registry's refresh token, of no use elsewhere"));
        }
        Credential::Unobtainable(why) => return Err(candidate.unusable(why)),
    }
    Ok(request)
}

/// `Authorization: Basic …` (RFC 7617).
pub(crate) fn basic(who: &Candidate) -> Option<HeaderValue> {
    let Credential::Basic { username, password } = &who.credential else {
        return None;
    };
    sensitive(&format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{}", password.expose_secret()))
    ))
}

/// The error for an answer of 401 or 403, after every candidate was tried. `hint` is for where there were none.
pub(crate) fn refused(answer: &Response, what: &str, tried: &[Candidate], hint: &str) -> Error {
    let error = Error::from(answer.error(what));
    if tried.is_empty() {
        return error.hint(hint);
    }
    if answer.status.as_u16() == 404 {
        return error.hint("check the name; or whose credentials were tried may not see it");
    }
    let origins = tried
        .iter()
        .map(|candidate| candidate.origin.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    error
        .context(format_args!("with the credentials of {origins}"))
        .hint("check that they are right, and that they allow it")
}
