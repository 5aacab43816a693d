//! A response whose body is not read yet.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use url::Url;

use crate::authority::origin;
use crate::{Body, Caching, Error, ErrorKind, MinRate, coding};

/// A response with any status. Only the caller knows the meaning of 404 for its request.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The URL of the response, after redirects.
    pub url: Url,
    /// The number of times that the request was sent.
    pub(crate) attempts: u32,
    response: reqwest::Response,
}

impl Response {
    pub(crate) fn new(url: Url, response: reqwest::Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            url,
            attempts: 1,
            response,
        }
    }

    /// Reads the whole body without its content coding. More than `limit` decoded bytes are an
    /// error that names `what`.
    pub async fn bytes(self, limit: u64, what: &str) -> Result<Bytes, Error> {
        self.decoded_body()?.bytes(limit, what).await
    }

    /// The response headers that control a cache.
    pub fn caching(&self) -> Caching {
        Caching::of(&self.headers, SystemTime::now())
    }

    /// The body without its content coding, if the server used one.
    pub fn decoded_body(self) -> Result<Body, Error> {
        let headers = self.headers.clone();
        let origin = origin(&self.url);
        coding::decoded(self.body(), &headers, &origin)
    }

    /// The body as the server sends it.
    pub fn body(self) -> Body {
        let length = self.response.content_length();
        let origin = origin(&self.url);
        let mut rate = None;
        let stream = self.response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| {
                let message = format!("the connection to {origin} was interrupted");
                Error::new(ErrorKind::Unavailable, message).caused_by(error.without_url())
            })?;
            // The clock starts with the first chunk: until the caller reads, the server cannot
            // send.
            rate.get_or_insert_with(|| MinRate::new(Instant::now()))
                .received(chunk.len(), Instant::now())
                .map_err(|too_slow| {
                    Error::new(
                        ErrorKind::TooSlow,
                        format!("{origin} is too slow: {too_slow}"),
                    )
                })?;
            Ok(chunk)
        });
        Body {
            stream: stream.boxed(),
            length,
        }
    }

    /// The error for a status that the caller does not expect. `what` names the resource.
    pub fn error(&self, what: &str) -> Error {
        let origin = origin(&self.url);
        let status = self.status;
        let (kind, message) = match status.as_u16() {
            404 | 410 => (ErrorKind::NotFound, format!("{origin} has no {what}")),
            401 | 403 => (
                ErrorKind::Unauthorized,
                format!("{origin} refuses {what} ({status})"),
            ),
            429 => (
                ErrorKind::RateLimited,
                format!("{origin} limits requests ({status})"),
            ),
            408 | 500..=599 => (
                ErrorKind::Unavailable,
                format!("{origin} failed with {status}"),
            ),
            _ => (
                ErrorKind::Protocol,
                format!("{origin} answered {status} when asked for {what}"),
            ),
        };
        let error = Error::new(kind, message);
        if self.attempts > 1 {
            error.context(format_args!("after {} attempts", self.attempts))
        } else {
            error
        }
    }
}
