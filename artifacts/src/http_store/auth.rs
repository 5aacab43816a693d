//! Credentials of an HTTP artifact, as headers of its requests.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::config::{BasicAuth, ClientCertAuth, Header};
use crate::host::{ArtifactHost, SecretKeySelector};
use crate::{Error, ErrorKind};

/// The Secrets of a namespace.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) namespace: &'a str,
    pub(super) host: &'a dyn ArtifactHost,
}

impl Secrets<'_> {
    /// The value of a Secret; `None` if no Secret is named.
    pub(super) async fn value(
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
        Ok(Some(net::basic(
            user.expose_secret(),
            password.expose_secret(),
        )))
    }
}

/// The headers of a template.
pub(super) fn headers(configured: &[Header]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for Header { name, value } in configured {
        let parsed = HeaderName::try_from(name.as_str())
            .ok()
            .zip(HeaderValue::from_str(value).ok());
        let (name, mut value) = parsed.ok_or_else(|| {
            let message = "one of `http.headers` is not a valid header";
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        if net::is_set_by_client(&name) {
            let message = format!("`http.headers` has the header `{name}`");
            return Err(Error::new(ErrorKind::InvalidConfig, message)
                .with_hint("remove this header: only this program sets it"));
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// A header value that logs do not show.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, Error> {
    net::sensitive(text).ok_or_else(|| {
        let message = "a credential in `http.auth` has characters that a header cannot have";
        Error::new(ErrorKind::InvalidConfig, message)
    })
}
