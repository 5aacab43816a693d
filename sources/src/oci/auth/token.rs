//! Access tokens: the request to the token server, and its answer.
//!
//! The protocol is in <https://distribution.github.io/distribution/spec/auth/token/>, and for
//! refresh tokens in <https://distribution.github.io/distribution/spec/auth/oauth/>.

use std::time::Duration;

use net::{Request, Response, authority};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::credentials::preemptive::basic;
use crate::credentials::{Candidate, Credential, RefreshToken};
use crate::source::Context;
use crate::{Error, ErrorKind};

const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// The lifetime in seconds of a token without a usable `expires_in`. The protocol defines it, and
/// also that no token has a shorter lifetime.
const MIN_LIFETIME: u64 = 60;
/// A new token is obtained at least this often.
const MAX_LIFETIME: u64 = 3600;
/// Seconds before its expiry in which a token is not used: it could expire in transit.
const MARGIN: u64 = 5;
const CLIENT_ID: &str = "wasm-workflow-executor";

/// An access token of a token server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) value: String,
    pub(super) lifetime: Duration,
}

/// Why the answer of a token server has no usable token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum AnswerError {
    #[error("the answer is malformed: {0}")]
    Malformed(#[from] go_json::Error),
    #[error("the token is not a text")]
    NotAText,
    #[error("the answer has no `token` and no `access_token`")]
    NoToken,
}

/// Fetches an access token for the scopes from the token server at `realm`. `None` if the token
/// server rejects the credential.
pub(super) async fn fetch(
    realm: Url,
    service: Option<&str>,
    scopes: &[String],
    candidate: Option<&Candidate>,
    context: &Context<'_>,
) -> Result<Option<Token>, Error> {
    let server = authority(&realm);
    let answer = ask(realm, service, scopes, candidate, context).await?;
    match answer.status.as_u16() {
        200..=299 => {}
        400 | 401 | 403 if candidate.is_some() => return Ok(None),
        _ => {
            let scopes = scopes.join(" ");
            return Err(answer.error(&format!("token for `{scopes}`")).into());
        }
    }
    let bytes = answer
        .bytes(MAX_TOKEN_BYTES, "the answer of the token server")
        .await?;
    parse(&bytes).map(Some).map_err(|error| {
        let message = format!("the token server `{server}` sends no usable token: {error}");
        Error::new(ErrorKind::Protocol, message)
    })
}

/// Asks the token server for an access token: with `POST` if there is a refresh token, otherwise
/// with `GET`.
///
/// Old token servers do not support `POST`. Then this function tries `GET` with the login of the
/// refresh token, as containerd does.
async fn ask(
    realm: Url,
    service: Option<&str>,
    scopes: &[String],
    candidate: Option<&Candidate>,
    context: &Context<'_>,
) -> Result<Response, Error> {
    let credential = candidate.map(|candidate| &candidate.credential);
    let Some(Credential::Identity(refresh_token)) = credential else {
        let login = candidate.and_then(basic);
        let request = get(realm, service, scopes, login);
        return Ok(context.http.send(&request).await?);
    };
    let RefreshToken {
        token,
        username,
        password,
    } = refresh_token;
    let request = post(realm.clone(), service, scopes, token);
    let answer = context.http.send(&request).await?;
    if !matches!(answer.status.as_u16(), 400 | 401 | 404 | 405) {
        return Ok(answer);
    }
    let server = authority(&realm);
    let status = answer.status;
    tracing::debug!(server, %status, "the token server refuses POST; GET is tried");
    let request = get(
        realm,
        service,
        scopes,
        Some(net::basic(username, password.expose_secret())),
    );
    Ok(context.http.send(&request).await?)
}

/// The request for an access token with a refresh token.
fn post(
    realm: Url,
    service: Option<&str>,
    scopes: &[String],
    refresh_token: &SecretString,
) -> Request {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token")
        .append_pair("refresh_token", refresh_token.expose_secret())
        .append_pair("client_id", CLIENT_ID)
        // OAuth 2 separates scopes with spaces (RFC 6749, section 3.3).
        .append_pair("scope", &scopes.join(" "));
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    Request {
        refuse_redirects: true,
        ..Request::post(
            realm,
            "application/x-www-form-urlencoded",
            form.finish().into(),
        )
    }
}

/// The request for an access token with a login, or without.
fn get(
    mut realm: Url,
    service: Option<&str>,
    scopes: &[String],
    login: Option<HeaderValue>,
) -> Request {
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    Request {
        refuse_redirects: login.is_some(),
        authorization: login,
        ..Request::get(realm)
    }
}

/// The answer of a token server. Each field is read on its own, so that an odd `expires_in` does
/// not affect the token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    token: Value,
    /// The name in OAuth 2.
    access_token: Value,
    expires_in: Value,
}

/// Reads the answer of a token server as leniently as Docker and skopeo.
fn parse(bytes: &[u8]) -> Result<Token, AnswerError> {
    let Answer {
        token,
        access_token,
        expires_in,
    } = go_json::from_slice(bytes)?;
    // A server may send both fields, and leave one empty.
    let mut tokens = [token, access_token].into_iter();
    let token = tokens.find(|value| !matches!(value, Value::Null) && value.as_str() != Some(""));
    let value = match token {
        Some(Value::String(value)) => value,
        Some(_) => return Err(AnswerError::NotAText),
        None => return Err(AnswerError::NoToken),
    };
    // `issued_at` is ignored: the clock of the token server may differ from the own clock.
    let seconds = lifetime(&expires_in);
    Ok(Token {
        value,
        lifetime: Duration::from_secs(seconds - MARGIN),
    })
}

/// The lifetime in seconds. A missing, malformed or too small value is [`MIN_LIFETIME`].
fn lifetime(expires_in: &Value) -> u64 {
    let seconds = match expires_in {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let seconds = Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default();
    seconds.as_secs().clamp(MIN_LIFETIME, MAX_LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_answers_are_read_leniently() {
        for (answer, token, seconds) in [
            (r#"{"token": "T"}"#, "T", 55),
            (r#"{"access_token": "T", "expires_in": 300}"#, "T", 295),
            (r#"{"token": "", "access_token": "T"}"#, "T", 55),
            (r#"{"token": null, "access_token": "T"}"#, "T", 55),
            (r#"{"token": "T", "access_token": ""}"#, "T", 55),
            (r#"{"token": "T", "access_token": "U"}"#, "T", 55),
            (r#"{"token": "T", "expires_in": 0}"#, "T", 55),
            (r#"{"token": "T", "expires_in": 1}"#, "T", 55),
            (r#"{"token": "T", "expires_in": -1}"#, "T", 55),
            (r#"{"token": "T", "expires_in": null}"#, "T", 55),
            (r#"{"token": "T", "expires_in": "300"}"#, "T", 295),
            (r#"{"token": "T", "expires_in": "soon"}"#, "T", 55),
            (r#"{"token": "T", "expires_in": 300.5}"#, "T", 295),
            (r#"{"token": "T", "expires_in": 1e99}"#, "T", 55),
            (r#"{"token": "T", "expires_in": 864000}"#, "T", 3595),
            (r#"{"Token": "T", "Expires_In": 300}"#, "T", 295),
            (r#"{"ACCESS_TOKEN": "T"}"#, "T", 55),
            (
                r#"{"token": "T", "issued_at": "yesterday", "refresh_token": 5, "x": {}}"#,
                "T",
                55,
            ),
        ] {
            let expected = Token {
                value: token.to_owned(),
                lifetime: Duration::from_secs(seconds),
            };
            assert_eq!(parse(answer.as_bytes()), Ok(expected), "{answer}");
        }
    }

    #[test]
    fn the_mistake_in_a_token_answer_is_named() {
        for (answer, expected) in [
            ("{}", AnswerError::NoToken),
            ("null", AnswerError::NoToken),
            (
                r#"{"token": "", "access_token": null}"#,
                AnswerError::NoToken,
            ),
            (r#"{"token": 5}"#, AnswerError::NotAText),
        ] {
            assert_eq!(parse(answer.as_bytes()), Err(expected), "{answer}");
        }
        for answer in ["", "<html>", "\"T\"", "[]"] {
            let error = parse(answer.as_bytes()).unwrap_err();
            assert!(matches!(error, AnswerError::Malformed(_)), "{answer}");
        }
    }

    #[test]
    fn each_scope_is_a_parameter_of_its_own() {
        let realm: Url = "https://r.example/token?account=a".parse().unwrap();
        let scopes = ["repository:a:pull".to_owned(), "aws".to_owned()];
        let by_get = get(realm.clone(), Some("s p"), &scopes, None);
        assert_eq!(
            by_get.url.query(),
            Some("account=a&service=s+p&scope=repository%3Aa%3Apull&scope=aws")
        );
        let by_post = post(realm, None, &scopes, &"r".into());
        let form = by_post.content.unwrap().bytes;
        assert_eq!(
            form,
            "grant_type=refresh_token&refresh_token=r&client_id=wasm-workflow-executor&scope=repository%3Aa%3Apull+aws"
        );
    }
}
