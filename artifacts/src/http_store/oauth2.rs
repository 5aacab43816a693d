//! Tokens of the OAuth 2.0 client credentials grant (RFC 6749, 4.4), as in `golang.org/x/oauth2`,
//! which Argo uses.

use std::time::Duration;

use backon::Retryable;
use moka::sync::Cache;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Response};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::auth::{Secrets, sensitive};
use super::config::OAuth2Auth;
use super::token::{Answer, read_token};
use crate::host::HttpClient;
use crate::retry::{REQUEST_ATTEMPTS, backoff};
use crate::{Error, ErrorKind};

const FORM: &str = "application/x-www-form-urlencoded";
/// Highest number of token servers whose [`Placement`] is known.
const MAX_SERVERS: u64 = 1000;
/// Time for which the placement of a token server is known.
const TIME_TO_LIVE: Duration = Duration::from_hours(1);

/// The place of the client's credentials in a request for a token (RFC 6749, 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placement {
    /// In the header `Authorization`. Both parts are form-encoded.
    Header,
    /// In the form, with the other parameters. For servers that do not read the header.
    Form,
}

impl Placement {
    fn other(self) -> Self {
        match self {
            Self::Header => Self::Form,
            Self::Form => Self::Header,
        }
    }
}

/// The placements that token servers accept. A token server can accept one placement from one
/// client and the other placement from another client. All HTTP stores of a process share the
/// placements.
#[derive(Clone, Debug)]
pub(crate) struct TokenServers(Cache<Registration, Placement>);

/// A client at a token server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Registration {
    server: Url,
    client: String,
}

impl TokenServers {
    pub(crate) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(MAX_SERVERS)
            .time_to_live(TIME_TO_LIVE);
        Self(cache.build())
    }

    /// The `Authorization` header with a token, if the client credentials are configured.
    ///
    /// The credentials are sent in the header first. If the server refuses them there, they are
    /// sent in the form.
    pub(super) async fn bearer(
        &self,
        auth: &OAuth2Auth,
        secrets: Secrets<'_>,
        http: &dyn HttpClient,
    ) -> Result<Option<HeaderValue>, Error> {
        let id = secrets.value(auth.client_id_secret.as_ref()).await?;
        let secret = secrets.value(auth.client_secret_secret.as_ref()).await?;
        let server = secrets.value(auth.token_url_secret.as_ref()).await?;
        let (Some(id), Some(secret), Some(server)) = (id, secret, server) else {
            return Ok(None);
        };
        let url = Url::parse(server.expose_secret().trim()).map_err(|_| {
            let message = "the Secret of `http.auth.oauth2.tokenURLSecret` contains no URL";
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        let client = Client {
            parameters: parameters(auth)?,
            url,
            id,
            secret,
            http,
        };
        let registration = Registration {
            server: client.url.clone(),
            client: client.id().to_owned(),
        };
        let first = self.0.get(&registration).unwrap_or(Placement::Header);
        let refusal = match client.token(first).await? {
            Answer::Token(token) => {
                self.0.insert(registration, first);
                return sensitive(&token).map(Some);
            }
            Answer::Refused(refusal) => refusal,
        };
        match client.token(first.other()).await? {
            Answer::Token(token) => {
                self.0.insert(registration, first.other());
                sensitive(&token).map(Some)
            }
            // Servers that refuse both say why in the first answer.
            Answer::Refused(_) => Err(refusal),
        }
    }
}

/// A client with its token server.
struct Client<'a> {
    /// Parameters of the form, without credentials.
    parameters: Vec<(String, String)>,
    url: Url,
    id: SecretString,
    secret: SecretString,
    http: &'a dyn HttpClient,
}

impl Client<'_> {
    fn id(&self) -> &str {
        self.id.expose_secret().trim()
    }

    fn secret(&self) -> &str {
        self.secret.expose_secret().trim()
    }

    /// Asks for a token. Repeats the request if the server fails for a reason that may pass.
    async fn token(&self, placement: Placement) -> Result<Answer, Error> {
        let attempt = || async {
            let response = self.send(placement).await?;
            read_token(response, &[self.secret(), self.id()]).await
        };
        attempt
            .retry(backoff(REQUEST_ATTEMPTS))
            .when(Error::retryable)
            .await
    }

    /// Sends the request, and follows redirects that keep the credentials on their server.
    async fn send(&self, placement: Placement) -> Result<Response, Error> {
        let mut url = self.url.clone();
        for _ in 0..=net::MAX_REDIRECTS {
            let request = self.request(placement, url.clone());
            let response = self.http.execute(request).await?;
            let status = response.status();
            let target = net::redirect_target(&Method::POST, &url, status, response.headers())?;
            let Some(next) = target else {
                return Ok(response);
            };
            if !net::keeps_credentials(&url, &next) {
                let message = format!(
                    "the token server of `http.auth.oauth2` redirects to {}, which is another server",
                    net::origin(&next)
                );
                return Err(Error::new(ErrorKind::Forbidden, message)
                    .with_hint("put the URL of the right server into the Secret"));
            }
            url = next;
        }
        Err(net::too_many_redirects(&self.url).into())
    }

    fn request(&self, placement: Placement, url: Url) -> Request {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(&self.parameters);
        let mut request = Request::new(Method::POST, url);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        match placement {
            Placement::Header => {
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let value = net::basic(&encoded(self.id()), &encoded(self.secret()));
                headers.insert(AUTHORIZATION, value);
            }
            Placement::Form => {
                form.append_pair("client_id", self.id());
                form.append_pair("client_secret", self.secret());
            }
        }
        *request.body_mut() = Some(form.finish().into());
        request
    }
}

/// The parameters of a request for a token (RFC 6749, 4.4.2). As in Go's client, `endpointParams`
/// may replace `grant_type`, and no other parameter.
fn parameters(auth: &OAuth2Auth) -> Result<Vec<(String, String)>, Error> {
    let own = |key: &str| auth.endpoint_params.iter().any(|param| param.key == key);
    let mut parameters = Vec::new();
    if !own("grant_type") {
        parameters.push(("grant_type".to_owned(), "client_credentials".to_owned()));
    }
    if !auth.scopes.is_empty() {
        if own("scope") {
            let message = "`scopes` and `endpointParams` of `http.auth.oauth2` both set `scope`";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        parameters.push(("scope".to_owned(), auth.scopes.join(" ")));
    }
    let own = auth.endpoint_params.iter();
    parameters.extend(own.map(|param| (param.key.clone(), param.value.clone())));
    Ok(parameters)
}
