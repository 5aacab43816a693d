//! The rules for redirects.

use reqwest::header::LOCATION;
use url::Url;

use crate::authority::origin;
use crate::{Error, ErrorKind, Request};

/// The longest chain of redirects.
pub(crate) const MAX_REDIRECTS: usize = 5;

/// The target of the redirect, if the response is one and the rules allow to follow it.
pub(crate) fn target(
    request: &Request,
    response: &reqwest::Response,
) -> Result<Option<Url>, Error> {
    let from = response.url();
    let Some(to) = location(response)? else {
        return Ok(None);
    };
    if request.stays() {
        let message = format!(
            "{} redirects a request that carries credentials or a body; the redirect is not \
             followed",
            origin(from)
        );
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    if !matches!(to.scheme(), "https" | "http") {
        let message = format!(
            "{} redirects to a URL with the scheme `{}:`, which is not HTTP",
            origin(from),
            to.scheme()
        );
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    if from.scheme() == "https" && to.scheme() != "https" {
        let message = format!("{} redirects from HTTPS to {}", origin(from), origin(&to));
        return Err(Error::new(ErrorKind::Denied, message));
    }
    Ok(Some(to))
}

/// The error for a chain of redirects that is too long.
pub(crate) fn too_many(request: &Request) -> Error {
    let message = format!(
        "{} redirects more than {MAX_REDIRECTS} times",
        origin(&request.url)
    );
    Error::new(ErrorKind::Protocol, message)
}

fn location(response: &reqwest::Response) -> Result<Option<Url>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let malformed = || {
        let message = format!(
            "{} sends a redirect without a valid `Location`",
            origin(response.url())
        );
        Error::new(ErrorKind::Protocol, message)
    };
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(malformed)?;
    let target = response.url().join(location);
    target
        .map(Some)
        .map_err(|error| malformed().caused_by(error))
}
