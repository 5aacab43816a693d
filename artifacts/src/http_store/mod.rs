//! Artifacts at URLs: Argo's `http` (`workflow/artifacts/http/http.go`). A URL is a store of one
//! object.

mod auth;
mod config;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use backon::Retryable;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, LOCATION};
use reqwest::{Method, Request, Response};
use url::Url;

pub use config::{
    BasicAuth, ClientCertAuth, EndpointParam, Header, HttpAuth, HttpLocation, OAuth2Auth,
};

use auth::Secrets;

use crate::host::{ArtifactHost, HttpClient, TlsSettings};
use crate::retry::{REQUEST_ATTEMPTS, backoff};
use crate::{ArtifactStore, Body, Error, ErrorKind, Object};

/// Highest number of redirects of one request.
const REDIRECTS: usize = 5;

/// The object at a URL.
pub(crate) struct HttpStore {
    url: Url,
    /// Headers with credentials. Only the origin of `url` receives them.
    headers: HeaderMap,
    http: Arc<dyn HttpClient>,
}

/// Opens the store at a URL. Its credentials are Secrets of `namespace`.
pub(crate) async fn open(
    location: &HttpLocation,
    namespace: &str,
    host: &dyn ArtifactHost,
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
    let http = host.http_client(&TlsSettings {
        authority: None,
        identity: secrets.identity(&auth.client_cert).await?,
    })?;
    let mut headers = auth::headers(&location.headers)?;
    // If several kinds are configured, the last of these is used.
    let authorization = [
        auth::from_url(&mut url)?,
        secrets.basic(&auth.basic_auth).await?,
        secrets.bearer(&auth.oauth2, &*http).await?,
    ];
    if let Some(authorization) = authorization.into_iter().flatten().next_back() {
        headers.insert(AUTHORIZATION, authorization);
    }
    Ok(HttpStore { url, headers, http })
}

impl HttpStore {
    fn request(&self, method: Method, url: &Url) -> Request {
        let mut request = Request::new(method, url.clone());
        if url.origin() == self.url.origin() {
            request.headers_mut().clone_from(&self.headers);
        }
        request
    }

    /// Requests the object, and follows redirects.
    async fn fetch(&self) -> Result<Response, Error> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS {
            let response = self.http.execute(self.request(Method::GET, &url)).await?;
            if !response.status().is_redirection() {
                return check_status(response);
            }
            url = redirect_target(&url, &response)?;
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("the server redirects more than {REDIRECTS} times"),
        ))
    }
}

fn redirect_target(url: &Url, response: &Response) -> Result<Url, Error> {
    let target = response
        .headers()
        .get(LOCATION)
        .and_then(|target| target.to_str().ok())
        .and_then(|target| url.join(target).ok());
    let target = target.ok_or_else(|| {
        let message = "the server sends a redirect without a valid `Location`";
        Error::new(ErrorKind::Unavailable, message)
    })?;
    if url.scheme() == "https" && target.scheme() != "https" {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "the server redirects from HTTPS to plain HTTP, which is not followed",
        ));
    }
    Ok(target)
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
        let response = (|| self.fetch())
            .retry(backoff(REQUEST_ATTEMPTS))
            .when(Error::retryable)
            .await?;
        let length = response.content_length();
        let name = self.to_string();
        let stream = response.bytes_stream().map(move |chunk| {
            chunk.map_err(|error| {
                let message = format!("the connection to {name} was interrupted");
                Error::connection(message, error.without_url())
            })
        });
        Ok(Body::new(stream.boxed(), length))
    }

    async fn put(&self, key: &str, body: Body) -> Result<(), Error> {
        if !key.is_empty() {
            let message = "a directory cannot be stored at a URL";
            return Err(Error::new(ErrorKind::InvalidFile, message)
                .with_hint("set `archive` to pack the directory"));
        }
        let mut request = self.request(Method::PUT, &self.url);
        if let Some(length) = body.length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        *request.body_mut() = Some(reqwest::Body::wrap_stream(body.stream));
        self.http
            .execute(request)
            .await
            .and_then(check_status)
            .map(drop)
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
