//! The one HTTP client: every request of this program to somewhere else goes through it.
//!
//! It adds to the HTTP library what an untrusted network needs: addresses are checked after name resolution, redirects are
//! followed by our own rule, credentials never follow to another origin, and failures that may pass are retried.

mod coding;
mod guard;
mod pace;

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use reqwest::{Certificate, Method, StatusCode};
use url::Url;

pub(crate) use guard::split_port;
pub use guard::{Hosts, forbidden_address, is_host};
pub use pace::Pace;

use crate::Caching;
use crate::reference::display_url;
use crate::source::Body;
use crate::{Error, ErrorKind};

const ATTEMPTS: u32 = 4;
const REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence between two chunks.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);
/// A body from which on it is sent with another clock, and how long that may take.
const LARGE_BODY: usize = 1 << 20;
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(30);

/// The guarded client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    guarded: Guarded,
    /// For large bodies: the library's clock for silence runs while they are sent.
    uploads: Guarded,
}

/// A client whose requests go where they may, and no further: it follows no redirects and repeats nothing.
#[derive(Clone, Debug)]
pub struct Guarded {
    client: reqwest::Client,
    hosts: Hosts,
}

impl Guarded {
    /// The client that the builder makes, with the guard in front of it.
    pub fn new(hosts: Hosts, builder: reqwest::ClientBuilder) -> Result<Self, Error> {
        let builder = builder
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .dns_resolver(guard::Resolver::new(hosts.clone()));
        let client = builder.build().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the HTTP client cannot be set up")
                .caused_by(error)
                .permanent()
        })?;
        Ok(Self { client, hosts })
    }

    /// Sends one request.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        self.hosts.check(request.url())?;
        let url = request.url().clone();
        self.client
            .execute(request)
            .await
            .map_err(|error| unreachable_origin(&url, error))
    }
}

/// One request. It reads, even where that takes a `POST`: it may be sent again.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD` or `POST`.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// The media types to ask for.
    pub accept: Vec<&'static str>,
    /// Credentials for the origin of `url`, and for no other. Made by [`sensitive`].
    pub authorization: Option<HeaderValue>,
    /// Headers for the origin of `url`, and for no other.
    pub headers: HeaderMap,
    /// Whether a redirect is an error: of what has a password in it, or gives one.
    pub stays: bool,
    /// Asks for the content only if it is another.
    pub unless: Option<Caching>,
    /// What is posted, and its type. It goes to `url` alone: a redirect is an error then.
    pub body: Option<(&'static str, Bytes)>,
}

impl Request {
    /// A `GET` without credentials.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            accept: Vec::new(),
            authorization: None,
            headers: HeaderMap::new(),
            stays: false,
            unless: None,
            body: None,
        }
    }

    /// A `POST` without credentials.
    pub fn post(url: Url, content_type: &'static str, body: Bytes) -> Self {
        Self {
            method: Method::POST,
            body: Some((content_type, body)),
            ..Self::get(url)
        }
    }
}

/// A header that no log shows. `None` when it cannot be one.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What came back, body unread. Any status: a source knows what 404 means.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Url,
    /// How often it was asked for.
    attempts: u32,
    response: reqwest::Response,
}

impl Http {
    /// A client that speaks plain HTTP to the hosts in `insecure` alone, and trusts the certificate authorities in `authorities` (PEM)
    /// besides the machine's own.
    pub fn new(insecure: &Hosts, authorities: &[String]) -> Result<Self, Error> {
        // Another part of the program may have installed one: then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut certificates = Vec::new();
        for pem in authorities {
            let bundle = Certificate::from_pem_bundle(pem.as_bytes())
                .ok()
                .filter(|bundle| !bundle.is_empty());
            certificates.extend(bundle.ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "a certificate authority under `sources.ca` is not a certificate in PEM",
                )
            })?);
        }
        let builder = |uploads: bool| {
            let builder = reqwest::Client::builder()
                .tls_certs_merge(certificates.iter().cloned())
                .user_agent(concat!(
                    "wasm-workflow-executor/",
                    env!("CARGO_PKG_VERSION")
                ))
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(Duration::from_secs(30));
            if uploads {
                builder.timeout(UPLOAD_TIMEOUT)
            } else {
                builder.read_timeout(READ_TIMEOUT)
            }
        };
        let guarded = |uploads: bool| {
            Guarded::new(insecure.clone(), builder(uploads)).or_else(|error| {
                // An image without certificate authorities can still serve plain HTTP registries.
                tracing::warn!(%error, "no certificate authorities on this machine: HTTPS will fail");
                Guarded::new(insecure.clone(), builder(uploads).tls_certs_only(certificates.iter().cloned()))
            })
        };
        Ok(Self {
            guarded: guarded(false)?,
            uploads: guarded(true)?,
        })
    }

    /// Whether plain HTTP is spoken to `authority` (`host` or `host:port`).
    pub fn is_insecure(&self, authority: &str) -> bool {
        self.guarded.hosts.contains(authority)
    }

    /// The scheme for `authority`.
    pub(crate) fn scheme(&self, authority: &str) -> &'static str {
        if self.is_insecure(authority) {
            "http"
        } else {
            "https"
        }
    }

    /// Sends a request, follows redirects, and repeats what may succeed the next time.
    pub async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let mut attempt = 1;
        loop {
            let result = self.follow(request).await;
            let retry = match &result {
                Ok(answer) if is_transient(answer.status) => retry_after(&answer.headers),
                Err(error) if error.retryable() => None,
                _ => return result,
            };
            let wait = retry.unwrap_or_else(|| backoff(attempt));
            if attempt == ATTEMPTS || wait > LONGEST_RETRY_AFTER {
                return result
                    .map(|answer| Answer {
                        attempts: attempt,
                        ..answer
                    })
                    .map_err(|error| error.context(format_args!("after {attempt} attempts")));
            }
            tracing::debug!(url = %display_url(&request.url), attempt, ?wait, "trying again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    async fn follow(&self, request: &Request) -> Result<Answer, Error> {
        let mut url = request.url.clone();
        let (mut authorization, mut own) = (request.authorization.as_ref(), Some(&request.headers));
        for _ in 0..=REDIRECTS {
            let response = self.once(request, &url, authorization, own).await?;
            let Some(next) = redirect_target(&response)? else {
                let (status, headers) = (response.status(), response.headers().clone());
                return Ok(Answer {
                    status,
                    headers,
                    url,
                    attempts: 1,
                    response,
                });
            };
            if request.body.is_some() || request.stays {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!("{} redirects what only it is asked", origin(&url)),
                ));
            }
            if !matches!(next.scheme(), "https" | "http") {
                let message = format!(
                    "{} redirects to `{}:`, which is not the web",
                    origin(&url),
                    next.scheme()
                );
                return Err(Error::new(ErrorKind::Protocol, message));
            }
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!("{} redirects from HTTPS to {}", origin(&url), origin(&next)),
                ));
            }
            if next.origin() != url.origin() {
                (authorization, own) = (None, None);
            }
            url = next;
        }
        Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "{} redirects more than {REDIRECTS} times",
                origin(&request.url)
            ),
        ))
    }

    async fn once(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
        own: Option<&HeaderMap>,
    ) -> Result<reqwest::Response, Error> {
        let mut headers = own.cloned().unwrap_or_default();
        // Digests are of content as it is.
        headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("identity"));
        if !request.accept.is_empty()
            && let Ok(value) = HeaderValue::from_str(&request.accept.join(", "))
        {
            headers.insert(ACCEPT, value);
        }
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        let unless = request.unless.as_ref();
        for (name, value) in [
            (
                IF_NONE_MATCH,
                unless.and_then(|unless| unless.etag.as_ref()),
            ),
            (
                IF_MODIFIED_SINCE,
                unless.and_then(|unless| unless.last_modified.as_ref()),
            ),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        let mut sent = reqwest::Request::new(request.method.clone(), url.clone());
        if let Some((content_type, body)) = &request.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            *sent.body_mut() = Some(body.clone().into());
        }
        *sent.headers_mut() = headers;
        let large = request
            .body
            .as_ref()
            .is_some_and(|(_, body)| body.len() >= LARGE_BODY);
        if large {
            self.uploads.execute(sent).await
        } else {
            self.guarded.execute(sent).await
        }
    }
}

impl Answer {
    /// The whole body, at most `limit` bytes of it.
    pub async fn bytes(self, limit: u64, what: &str) -> Result<Bytes, Error> {
        let mut body = self.body();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.stream.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() as u64 > limit {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("{what} is larger than {limit} bytes"),
                ));
            }
        }
        Ok(bytes.into())
    }

    /// What it says about keeping it.
    pub fn caching(&self) -> Caching {
        Caching::of(&self.headers, SystemTime::now())
    }

    /// The body as it arrives, without a content coding.
    pub fn decoded_body(self) -> Result<Body, Error> {
        let (headers, origin) = (self.headers.clone(), origin(&self.url));
        coding::decoded(self.body(), &headers, &origin)
    }

    /// The body as it arrives.
    pub fn body(self) -> Body {
        let length = self.response.content_length();
        let origin = origin(&self.url);
        let mut pace = None;
        let stream = self.response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("the connection to {origin} broke off"),
                )
                .caused_by(error.without_url())
            })?;
            // Whoever waits for a turn does not read, and that is not the server's fault.
            let pace = pace.get_or_insert_with(|| Pace::new(Instant::now()));
            pace.arrived(chunk.len(), Instant::now())
                .map_err(|(bytes, passed)| {
                    let message = format!(
                        "{origin} is too slow: {bytes} bytes in {} s",
                        passed.as_secs()
                    );
                    Error::new(ErrorKind::Unavailable, message).permanent()
                })?;
            Ok(chunk)
        });
        Body {
            stream: stream.boxed(),
            length,
        }
    }

    /// The error for a status that the caller did not expect. `what` is what was asked for.
    pub fn error(&self, what: &str) -> Error {
        let origin = origin(&self.url);
        let status = self.status;
        let error = match status.as_u16() {
            404 | 410 => Error::new(ErrorKind::NotFound, format!("{origin} has no {what}")),
            401 | 403 => Error::new(
                ErrorKind::Unauthorized,
                format!("{origin} refuses {what} ({status})"),
            ),
            429 => Error::new(
                ErrorKind::RateLimited,
                format!("{origin} limits requests ({status})"),
            ),
            408 | 500..=599 => Error::new(
                ErrorKind::Unavailable,
                format!("{origin} failed with {status}"),
            ),
            _ => Error::new(
                ErrorKind::Protocol,
                format!("{origin} answered {status} when asked for {what}"),
            ),
        };
        if self.attempts > 1 {
            error.context(format_args!("after {} attempts", self.attempts))
        } else {
            error
        }
    }
}

/// Host, and port where the URL names one that is not its scheme's own.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Scheme, host and port: what a person needs to know of a URL.
pub(crate) fn origin(url: &Url) -> String {
    format!("`{}`", url.origin().ascii_serialization())
}

fn redirect_target(response: &reqwest::Response) -> Result<Option<Url>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let malformed = || {
        Error::new(
            ErrorKind::Protocol,
            format!("{} redirects to nowhere", origin(response.url())),
        )
    };
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(malformed)?;
    response
        .url()
        .join(location)
        .map(Some)
        .map_err(|error| malformed().caused_by(error))
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Full jitter, so that steps that failed together do not come back together.
fn backoff(attempt: u32) -> Duration {
    let ceiling = 200u64 << attempt.min(5);
    Duration::from_millis(fastrand::u64(ceiling / 4..=ceiling))
}

fn unreachable_origin(url: &Url, error: reqwest::Error) -> Error {
    let origin = origin(url);
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(inner) = cause {
        if let Some(denied) = inner.downcast_ref::<Error>() {
            return denied.clone();
        }
        cause = inner.source();
    }
    let cause = innermost(&error);
    let message = if error.is_timeout() {
        format!("{origin} does not answer in time")
    } else if cause.contains("InvalidContentType") {
        let message = format!("{origin} does not speak TLS: it is a server of plain HTTP, perhaps");
        return Error::new(ErrorKind::Unavailable, message)
            .hint("where that is so, the operator lists it under `sources.insecure`, and a URL begins with `http://`")
            .permanent();
    } else if cause.contains("invalid peer certificate") {
        return Error::new(ErrorKind::Unavailable, format!("{origin} is not trusted ({cause})"))
            .hint("where its authority is one of your own, the operator adds that under `sources.ca`; a certificate that signed itself is none")
            .permanent();
    } else {
        format!("{origin} cannot be reached ({cause})")
    };
    Error::new(ErrorKind::Unavailable, message)
        .hint("check the name and that the server is up and reachable from here")
        .caused_by(error.without_url())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back_is_seconds_or_a_date() {
        let wait = |text: &str| {
            retry_after(&HeaderMap::from_iter([(
                RETRY_AFTER,
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(
            wait("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::ZERO),
            "it is past"
        );
        let later = wait(&httpdate::fmt_http_date(
            SystemTime::now() + Duration::from_hours(1),
        ))
        .unwrap();
        assert!(
            later > Duration::from_mins(59) && later > LONGEST_RETRY_AFTER,
            "{later:?}"
        );
        assert_eq!(wait("soon"), None);
    }
}
