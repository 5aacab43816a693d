//! Credentials of an HTTP artifact, as headers of its requests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use reqwest::{Method, Request, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::config::{BasicAuth, ClientCertAuth, Header, OAuth2Auth};
use crate::host::{ArtifactHost, HttpClient, SecretKeySelector};
use crate::{Error, ErrorKind};

/// Longest response of a token server.
const MAX_TOKEN_BYTES: usize = 64 << 10;

/// The Secrets of a namespace.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) namespace: &'a str,
    pub(super) host: &'a dyn ArtifactHost,
}

impl Secrets<'_> {
    async fn value(
        self,
        selector: Option<&SecretKeySelector>,
    ) -> Result<Option<SecretString>, Error> {
        match selector {
            Some(selector) => self.host.secret(self.namespace, selector).await.map(Some),
            None => Ok(None),
        }
    }

    /// The client certificate and its private key in PEM, if both are configured.
    pub(super) async fn identity(
        self,
        auth: &ClientCertAuth,
    ) -> Result<Option<SecretString>, Error> {
        let certificate = self.value(auth.client_cert_secret.as_ref()).await?;
        let key = self.value(auth.client_key_secret.as_ref()).await?;
        Ok(certificate.zip(key).map(|(certificate, key)| {
            let pem = format!("{}\n{}", certificate.expose_secret(), key.expose_secret());
            SecretString::from(pem)
        }))
    }

    /// The `Authorization` header for a user name and a password. A missing part is empty.
    pub(super) async fn basic(self, auth: &BasicAuth) -> Result<Option<HeaderValue>, Error> {
        let user = self.value(auth.username_secret.as_ref()).await?;
        let password = self.value(auth.password_secret.as_ref()).await?;
        if user.is_none() && password.is_none() {
            return Ok(None);
        }
        let user = user.unwrap_or_default();
        let password = password.unwrap_or_default();
        basic(user.expose_secret(), password.expose_secret()).map(Some)
    }

    /// The `Authorization` header with a token of the token server, if the client credentials are
    /// configured.
    pub(super) async fn bearer(
        self,
        auth: &OAuth2Auth,
        http: &dyn HttpClient,
    ) -> Result<Option<HeaderValue>, Error> {
        let id = self.value(auth.client_id_secret.as_ref()).await?;
        let secret = self.value(auth.client_secret_secret.as_ref()).await?;
        let server = self.value(auth.token_url_secret.as_ref()).await?;
        let (Some(id), Some(secret), Some(server)) = (id, secret, server) else {
            return Ok(None);
        };
        let url = Url::parse(server.expose_secret().trim())
            .map_err(|_| token_error("has an invalid URL"))?;
        let mut request = Request::new(Method::POST, url);
        let headers = request.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(
            AUTHORIZATION,
            basic(id.expose_secret().trim(), secret.expose_secret().trim())?,
        );
        *request.body_mut() = Some(token_form(auth).into());
        let response = http.execute(request).await?;
        read_token(response).await.map(Some)
    }
}

/// The headers of a template.
pub(super) fn headers(configured: &[Header]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for Header { name, value } in configured {
        let parsed = HeaderName::try_from(name.as_str())
            .ok()
            .filter(|name| *name != CONTENT_LENGTH)
            .zip(HeaderValue::from_str(value).ok());
        let (name, mut value) = parsed.ok_or_else(|| {
            let message = "one of `http.headers` is not a valid header";
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Moves a user name and a password from the URL to an `Authorization` header, as Argo's HTTP
/// client does.
pub(super) fn from_url(url: &mut Url) -> Result<Option<HeaderValue>, Error> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    basic(&user, &password).map(Some)
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    sensitive(&format!("Basic {encoded}"))
}

fn sensitive(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        let message = "a credential in `http.auth` has characters that a header cannot have";
        Error::new(ErrorKind::InvalidConfig, message)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The form of a request for a token (RFC 6749, 4.4.2).
fn token_form(auth: &OAuth2Auth) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !auth.scopes.is_empty() {
        form.append_pair("scope", &auth.scopes.join(" "));
    }
    for param in &auth.endpoint_params {
        form.append_pair(&param.key, &param.value);
    }
    form.finish()
}

async fn read_token(response: Response) -> Result<HeaderValue, Error> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
    }
    if !response.status().is_success() {
        return Err(token_error(&format!("answers {}", response.status())));
    }
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_| token_error("closed the connection early"))?);
        if bytes.len() > MAX_TOKEN_BYTES {
            let message = format!("sends more than {MAX_TOKEN_BYTES} bytes");
            return Err(token_error(&message));
        }
    }
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|_| token_error("sends no `access_token`"))?;
    sensitive(&format!("Bearer {}", token.access_token))
}

fn token_error(reason: &str) -> Error {
    let message = format!("the token server of `http.auth.oauth2` {reason}");
    Error::new(ErrorKind::Forbidden, message)
}
