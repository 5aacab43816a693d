//! Artifacts at URLs: Argo's `http` (`workflow/artifacts/http/http.go`). A URL is a store of one object.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Request, Response};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::host::{ArtifactHost, HttpClient, SecretKeySelector, TlsSettings};
use crate::{ArtifactStore, Body, Error, ErrorKind, Object};

const REDIRECTS: usize = 5;
const ATTEMPTS: u32 = 4;
const MAX_TOKEN_BYTES: usize = 64 << 10;

/// `http` of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpLocation {
    /// The URL.
    pub url: String,
    /// Headers of every request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<HttpAuth>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// `http.auth`: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpAuth {
    /// A certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub client_cert: ClientCertAuth,
    /// A token, for an identity and a secret (RFC 6749, 4.4).
    #[serde(skip_serializing_if = "is_default")]
    pub oauth2: OAuth2Auth,
    /// A name and a password.
    #[serde(skip_serializing_if = "is_default")]
    pub basic_auth: BasicAuth,
}

/// `http.auth.basicAuth`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The Secret with the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret: Option<SecretKeySelector>,
    /// The Secret with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeySelector>,
}

/// `http.auth.clientCert`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientCertAuth {
    /// The Secret with the certificate in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<SecretKeySelector>,
    /// The Secret with its key in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_secret: Option<SecretKeySelector>,
}

/// `http.auth.oauth2`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OAuth2Auth {
    /// The Secret with the client's identity.
    #[serde(rename = "clientIDSecret", skip_serializing_if = "Option::is_none")]
    pub client_id_secret: Option<SecretKeySelector>,
    /// The Secret with the client's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_secret: Option<SecretKeySelector>,
    /// The Secret with the URL of the token server.
    #[serde(rename = "tokenURLSecret", skip_serializing_if = "Option::is_none")]
    pub token_url_secret: Option<SecretKeySelector>,
    /// What the token is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What else the token server wants to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoint_params: Vec<EndpointParam>,
}

/// `http.auth.oauth2.endpointParams[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointParam {
    /// Its name.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The object at a URL.
pub(crate) struct HttpStore {
    url: Url,
    /// For the URL's own origin, and no other.
    headers: HeaderMap,
    http: Arc<dyn HttpClient>,
}

/// A store for the URL, with the Secrets of a namespace.
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
    let auth = location.auth.clone().unwrap_or_default();
    let read = async |selector: &Option<SecretKeySelector>| match selector {
        Some(selector) => host.secret(namespace, selector).await.map(Some),
        None => Ok(None),
    };
    let certificate = read(&auth.client_cert.client_cert_secret).await?;
    let identity = match (
        certificate,
        read(&auth.client_cert.client_key_secret).await?,
    ) {
        (Some(certificate), Some(key)) => Some(SecretString::from(format!(
            "{}\n{}",
            certificate.expose_secret(),
            key.expose_secret()
        ))),
        _ => None,
    };
    let http = host.http_client(&TlsSettings {
        authority: None,
        identity,
    })?;
    let mut headers = HeaderMap::new();
    for Header { name, value } in &location.headers {
        let name = HeaderName::try_from(name.as_str())
            .ok()
            .filter(|name| *name != CONTENT_LENGTH);
        let header = name.zip(HeaderValue::from_str(value).ok());
        let (name, mut value) =
            header.ok_or_else(|| invalid("one of `http.headers` cannot be a header"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    // As Argo's client has it: what is in the URL is a password too.
    if !url.username().is_empty() || url.password().is_some() {
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8_lossy()
                .into_owned()
        };
        headers.insert(
            AUTHORIZATION,
            basic(
                &decoded(url.username()),
                &decoded(url.password().unwrap_or_default()),
            )?,
        );
        let _ = url.set_username("").and_then(|()| url.set_password(None));
    }
    let (user, password) = (
        read(&auth.basic_auth.username_secret).await?,
        read(&auth.basic_auth.password_secret).await?,
    );
    if user.is_some() || password.is_some() {
        let part = |secret: &Option<SecretString>| {
            secret
                .as_ref()
                .map(|text| text.expose_secret().to_owned())
                .unwrap_or_default()
        };
        headers.insert(AUTHORIZATION, basic(&part(&user), &part(&password))?);
    }
    let id = read(&auth.oauth2.client_id_secret).await?;
    let secret = read(&auth.oauth2.client_secret_secret).await?;
    if let (Some(id), Some(secret), Some(server)) =
        (id, secret, read(&auth.oauth2.token_url_secret).await?)
    {
        headers.insert(
            AUTHORIZATION,
            token(&auth.oauth2, &id, &secret, &server, &*http).await?,
        );
    }
    Ok(HttpStore { url, headers, http })
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    sensitive(&format!("Basic {encoded}"))
}

fn sensitive(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::new(
            ErrorKind::InvalidConfig,
            "a credential in `http.auth` cannot be in a header",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Asks the token server, as the client itself.
async fn token(
    auth: &OAuth2Auth,
    id: &SecretString,
    secret: &SecretString,
    server: &SecretString,
    http: &dyn HttpClient,
) -> Result<HeaderValue, Error> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
    }
    let failed = |why: &str| {
        Error::new(
            ErrorKind::Forbidden,
            format!("the token server of `http.auth.oauth2` {why}"),
        )
    };
    let url = Url::parse(server.expose_secret().trim()).map_err(|_| failed("has no URL"))?;
    let form = {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !auth.scopes.is_empty() {
            form.append_pair("scope", &auth.scopes.join(" "));
        }
        form.extend_pairs(
            auth.endpoint_params
                .iter()
                .map(|param| (&param.key, &param.value)),
        );
        form.finish()
    };
    let mut request = Request::new(Method::POST, url);
    request.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    request.headers_mut().insert(
        AUTHORIZATION,
        basic(id.expose_secret().trim(), secret.expose_secret().trim())?,
    );
    *request.body_mut() = Some(form.into());
    let answer = http.execute(request).await?;
    if !answer.status().is_success() {
        return Err(failed(&format!("answers {}", answer.status())));
    }
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_| failed("broke off"))?);
        if bytes.len() > MAX_TOKEN_BYTES {
            return Err(failed("sends too much"));
        }
    }
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|_| failed("sends no `access_token`"))?;
    sensitive(&format!("Bearer {}", token.access_token))
}

impl HttpStore {
    fn request(&self, method: Method, url: &Url) -> Request {
        let mut request = Request::new(method, url.clone());
        if url.origin() == self.url.origin() {
            request.headers_mut().clone_from(&self.headers);
        }
        request
    }

    /// Follows redirects; the headers go to the URL's own origin alone.
    async fn fetch(&self) -> Result<Response, Error> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.http.execute(self.request(Method::GET, &url)).await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let next = answer
                .headers()
                .get(LOCATION)
                .and_then(|next| next.to_str().ok())
                .and_then(|next| url.join(next).ok());
            let next =
                next.ok_or_else(|| Error::new(ErrorKind::Unavailable, "it redirects to nowhere"))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    "it redirects from HTTPS to plain HTTP",
                ));
            }
            url = next;
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("it redirects more than {REDIRECTS} times"),
        ))
    }

    fn check(answer: Response) -> Result<Response, Error> {
        let status = answer.status();
        let kind = match status.as_u16() {
            200..=299 => return Ok(answer),
            404 | 410 => ErrorKind::NotFound,
            408 | 429 | 500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Forbidden,
        };
        Err(Error::new(kind, format!("it answers {status}")))
    }
}

#[async_trait]
impl ArtifactStore for HttpStore {
    async fn get(&self, _key: &str) -> Result<Body, Error> {
        let mut attempt = 1;
        let answer = loop {
            let answer = self.fetch().await.and_then(Self::check);
            match answer {
                Err(error) if error.retryable() && attempt < ATTEMPTS => {
                    tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
                    attempt += 1;
                }
                answer => break answer?,
            }
        };
        let (length, name) = (answer.content_length(), self.to_string());
        let stream = answer.bytes_stream().map(move |chunk| {
            chunk.map_err(|error| {
                Error::broken(
                    format!("the connection to {name} broke off"),
                    error.without_url(),
                )
            })
        });
        Ok(Body::new(stream.boxed(), length))
    }

    async fn put(&self, key: &str, body: Body) -> Result<(), Error> {
        if !key.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidFile,
                "a directory cannot go to a URL: pack it with `archive`",
            ));
        }
        let mut request = self.request(Method::PUT, &self.url);
        if let Some(length) = body.length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        *request.body_mut() = Some(reqwest::Body::wrap_stream(body.stream));
        self.http
            .execute(request)
            .await
            .and_then(Self::check)
            .map(drop)
    }

    async fn list(
        &self,
        _prefix: &str,
    ) -> Result<BoxStream<'static, Result<Object, Error>>, Error> {
        Ok(stream::empty().boxed())
    }
}

/// Without what may be a password in it.
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
