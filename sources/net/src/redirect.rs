//! The rules for redirects.

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::authority::{display_url, origin};
use crate::{Error, ErrorKind};

/// The longest chain of redirects, as in Go's HTTP client.
pub const MAX_REDIRECTS: usize = 10;

/// The target of the redirect, if the response to a request for `from` is one. The caller sends the
/// same request there, with the same content.
///
/// - `GET` and `HEAD` follow 301, 302, 303, 307 and 308.
/// - Other methods follow 307 and 308 (RFC 9110, 15.4.8). `PUT` also follows 301 and 302, as in
///   curl: these statuses permit only `POST` to become `GET` (RFC 9110, 15.4.2).
/// - Other redirects are errors. Go's client sends a `GET` without the content there, and an upload
///   seems to succeed.
///
/// # Errors
///
/// The redirect may not be followed, or it has no valid `Location`. A retry does not help.
pub fn redirect_target(
    method: &Method,
    from: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Option<Url>, Error> {
    let Some(to) = location(from, status, headers)? else {
        return Ok(None);
    };
    let keeps_method = match status.as_u16() {
        307 | 308 => true,
        301 | 302 => *method != Method::POST,
        _ => false,
    };
    if !keeps_method && !matches!(*method, Method::GET | Method::HEAD) {
        let message = format!(
            "{} answers {status} to a {method} request; at the new address, the request would be a \
             GET without content",
            origin(from)
        );
        return Err(Error::new(ErrorKind::Protocol, message).with_hint(format!(
            "send the content to the right address yourself; the server names `{}`",
            display_url(&to)
        )));
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

/// Whether a request that is redirected from `from` to `to` keeps its credentials and headers: to
/// the same origin, and from plain HTTP to HTTPS on the same host, each with its default port.
pub fn keeps_credentials(from: &Url, to: &Url) -> bool {
    let upgrades = from.host() == to.host()
        && from.scheme() == "http"
        && from.port_or_known_default() == Some(80)
        && to.scheme() == "https"
        && to.port_or_known_default() == Some(443);
    from.origin() == to.origin() || upgrades
}

/// The error for a chain of redirects that is too long. `url` is the first URL of the chain.
pub fn too_many_redirects(url: &Url) -> Error {
    let message = format!("{} redirects more than {MAX_REDIRECTS} times", origin(url));
    Error::new(ErrorKind::Protocol, message)
}

/// The error for a redirect of a request that must stay at its URL.
pub(crate) fn unexpected(url: &Url) -> Error {
    let message = format!(
        "{} redirects a request that carries credentials; the redirect is not followed",
        origin(url)
    );
    Error::new(ErrorKind::Protocol, message)
}

fn location(from: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Option<Url>, Error> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let malformed = || {
        let message = format!(
            "{} sends a redirect without a valid `Location`",
            origin(from)
        );
        Error::new(ErrorKind::Protocol, message)
    };
    let location = headers
        .get(LOCATION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
        .ok_or_else(malformed)?;
    from.join(location)
        .map(Some)
        .map_err(|error| malformed().caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(
        method: &Method,
        status: u16,
        from: &str,
        to: &str,
    ) -> Result<Option<String>, ErrorKind> {
        let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
        let status = StatusCode::from_u16(status).unwrap();
        let target = redirect_target(method, &from.parse().unwrap(), status, &headers);
        target
            .map(|target| target.map(String::from))
            .map_err(|error| error.kind())
    }

    #[test]
    fn a_redirect_never_changes_the_method() {
        let protocol = Err(ErrorKind::Protocol);
        for (method, statuses, followed) in [
            (Method::GET, vec![301, 302, 303, 307, 308], true),
            (Method::HEAD, vec![301, 302, 303, 307, 308], true),
            (Method::PUT, vec![301, 302, 307, 308], true),
            (Method::PUT, vec![303], false),
            (Method::POST, vec![307, 308], true),
            (Method::POST, vec![301, 302, 303], false),
        ] {
            for status in statuses {
                let target = follow(&method, status, "http://a/x", "/y?z");
                let expected = match followed {
                    true => Ok(Some("http://a/y?z".to_owned())),
                    false => protocol.clone(),
                };
                assert_eq!(target, expected, "{method} {status}");
            }
        }
        for status in [200, 300, 304, 305, 404] {
            assert_eq!(follow(&Method::PUT, status, "http://a/x", "/y"), Ok(None));
        }
    }

    #[test]
    fn https_never_becomes_another_scheme() {
        let target = |from, to| follow(&Method::GET, 302, from, to);
        assert!(target("http://a/", "https://b/").unwrap().is_some());
        assert_eq!(target("https://a/", "http://a/"), Err(ErrorKind::Denied));
        assert_eq!(target("http://a/", "file:///etc"), Err(ErrorKind::Protocol));
        assert_eq!(target("http://a/", "http://:x"), Err(ErrorKind::Protocol));
    }

    #[test]
    fn credentials_stay_on_their_host() {
        let keeps =
            |from: &str, to: &str| keeps_credentials(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(keeps("https://a/x", "https://a:443/y"));
        assert!(
            keeps("http://a/x", "https://a/x"),
            "a server that requires HTTPS"
        );
        for (from, to) in [
            ("https://a/", "https://b.a/"),
            ("https://a/", "https://a:8443/"),
            ("http://a:8080/", "https://a/"),
            ("http://a/", "https://a:8443/"),
            ("https://a/", "http://a/"),
        ] {
            assert!(!keeps(from, to), "{from} {to}");
        }
    }
}
