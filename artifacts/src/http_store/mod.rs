//! Artifacts at URLs: Argo's `http` (`workflow/artifacts/http/http.go`). A URL is a store of one
//! object.

mod auth;
mod config;
mod oauth2;
mod token;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use backon::Retryable;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName,
    HeaderValue, RANGE,
};
use reqwest::{Method, Request, Response};
use url::Url;

pub use config::{
    BasicAuth, ClientCertAuth, EndpointParam, Header, HttpAuth, HttpLocation, OAuth2Auth,
};

use auth::Secrets;
pub(crate) use oauth2::TokenServers;

use crate::archive;
use crate::host::{ArtifactHost, HttpClient, TlsSettings};
use crate::retry::{REQUEST_ATTEMPTS, backoff};
use crate::store::{Peeked, peek};
use crate::{ArtifactStore, Body, Content, Error, ErrorKind, Object};

/// The object at a URL.
pub(crate) struct HttpStore {
    url: Url,
    /// Headers with credentials. A redirect to another server leaves them out.
    headers: HeaderMap,
    http: Arc<dyn HttpClient>,
}

/// Checks the headers of a location.
pub(crate) fn check(location: &HttpLocation) -> Result<(), Error> {
    auth::headers(&location.headers).map(drop)
}

/// Opens the store at a URL. Its credentials are Secrets of `namespace`.
pub(crate) async fn open(
    location: &HttpLocation,
    namespace: &str,
    host: &dyn ArtifactHost,
    token_servers: &TokenServers,
) -> Result<HttpStore, Error> {
    let invalid = |message: &str| Error::new(ErrorKind::InvalidConfig, message);
    let mut url = Url::parse(&location.url)
        .map_err(|error| invalid("`http.url` is not a URL").caused_by(error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(
            "`http.url` must begin with `https://` or `http://`",
        ));
    }
    let secrets = Secrets { namespace, host };
    let auth = location.auth.clone().unwrap_or_default();
    let tls = TlsSettings {
        authority: None,
        identity: secrets.identity(&auth.client_cert).await?,
    };
    let http = host.http_client(namespace, &tls)?;
    let mut headers = auth::headers(&location.headers)?;
    // If several kinds are configured, the last of these is used.
    let authorization = [
        net::take_login(&mut url),
        secrets.basic(&auth.basic_auth).await?,
        token_servers.bearer(&auth.oauth2, secrets, &*http).await?,
    ];
    if let Some(authorization) = authorization.into_iter().flatten().next_back() {
        headers.insert(AUTHORIZATION, authorization);
    }
    Ok(HttpStore { url, headers, http })
}

impl HttpStore {
    /// Sends a request, and follows redirects. `content` is read again for each address.
    async fn send(&self, method: Method, content: Option<&dyn Content>) -> Result<Response, Error> {
        let mut url = self.url.clone();
        // Stays false after a redirect to another server, even if the chain returns.
        let mut keeps_credentials = true;
        for _ in 0..=net::MAX_REDIRECTS {
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = match keeps_credentials {
                true => self.headers.clone(),
                false => about_content(&self.headers),
            };
            if let Some(content) = content {
                let Body { stream, length, .. } = content.open().await?;
                if let Some(length) = length {
                    request.headers_mut().insert(CONTENT_LENGTH, length.into());
                }
                *request.body_mut() = Some(reqwest::Body::wrap_stream(stream));
            } else {
                let identity = HeaderValue::from_static("identity");
                let headers = request.headers_mut();
                headers.entry(ACCEPT_ENCODING).or_insert(identity);
            }
            let response = self.http.execute(request).await?;
            let status = response.status();
            let target = net::redirect_target(&method, &url, status, response.headers())?;
            let Some(next) = target else {
                return check_status(response);
            };
            keeps_credentials &= net::keeps_credentials(&url, &next);
            url = next;
        }
        Err(net::too_many_redirects(&self.url).into())
    }

    /// Whether content codings are undone. Go's client, which Argo uses, leaves the content as it
    /// is if the author asks for a coding or for a part.
    fn undoes_codings(&self) -> bool {
        !self.headers.contains_key(ACCEPT_ENCODING) && !self.headers.contains_key(RANGE)
    }
}

/// The headers that describe the content. They are no credentials.
fn about_content(headers: &HeaderMap) -> HeaderMap {
    let is_about_content = |name: &HeaderName| name.as_str().starts_with("content-");
    let headers = headers.iter().filter(|(name, _)| is_about_content(name));
    headers
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Whether Go's HTTP client undoes the coding of a response, if the caller asked for none. Then
/// Argo sees the content without the coding (`transport.go` in Go's `net/http`).
fn go_undoes(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

fn check_status(response: Response) -> Result<Response, Error> {
    let status = response.status();
    let kind = match status.as_u16() {
        200..=299 => return Ok(response),
        404 | 410 => ErrorKind::NotFound,
        408 | 429 | 500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Forbidden,
    };
    Err(Error::new(kind, format!("the server answers {status}")))
}

#[async_trait]
impl ArtifactStore for HttpStore {
    async fn get(&self, _key: &str) -> Result<Body, Error> {
        let response = (|| self.send(Method::GET, None))
            .retry(backoff(REQUEST_ATTEMPTS))
            .when(Error::retryable)
            .await?;
        let headers = response.headers().clone();
        let length = response.content_length();
        let name = self.to_string();
        let stream = response.bytes_stream().map(move |chunk| {
            chunk.map_err(|error| {
                let message = format!("the connection to {name} was interrupted");
                Error::connection(message, error.without_url())
            })
        });
        let body = net::Body {
            stream: stream.boxed(),
            length,
        };
        if !self.undoes_codings() || !net::is_coded(&headers) {
            return Ok(Body::new(body.stream, body.length));
        }
        let Peeked { head, stream } = peek(body.stream).await?;
        let was_tar_gz = !go_undoes(&headers) && archive::is_tar_gz(&head);
        let body = net::Body { stream, ..body };
        let body = net::decoded(body, &headers, &self.to_string())?;
        Ok(Body {
            was_tar_gz,
            ..Body::new(body.stream, body.length)
        })
    }

    async fn put(&self, key: &str, content: &dyn Content) -> Result<(), Error> {
        if !key.is_empty() {
            let message = "a directory cannot be stored at a URL";
            return Err(Error::new(ErrorKind::InvalidFile, message)
                .with_hint("set `archive` to pack the directory"));
        }
        self.send(Method::PUT, Some(content)).await.map(drop)
    }

    async fn list(
        &self,
        _prefix: &str,
    ) -> Result<BoxStream<'static, Result<Object, Error>>, Error> {
        Ok(stream::empty().boxed())
    }
}

/// The URL without the query, which may hold a password.
impl fmt::Display for HttpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}{}`",
            self.url.origin().ascii_serialization(),
            self.url.path()
        )
    }
}

impl fmt::Debug for HttpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
