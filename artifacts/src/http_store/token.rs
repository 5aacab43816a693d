//! The answer of a token server (RFC 6749, 5).

use futures::StreamExt;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;

use crate::{Error, ErrorKind};

/// Longest response of a token server.
const MAX_BYTES: usize = 1 << 20;
/// Longest text of the server that an error shows, in characters.
const SHOWN: usize = 200;

/// The answer to a request for a token.
pub(super) enum Answer {
    /// The value of the header `Authorization`.
    Token(String),
    /// The server gives no token.
    Refused(Error),
}

/// The fields of an answer. A server may send `null` for a field that it does not use.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    access_token: Option<String>,
    token_type: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Reads the answer. The `secrets` of the request are removed from texts of the server.
///
/// # Errors
///
/// The server failed for a reason that may pass, or it sends too much.
pub(super) async fn read_token(response: Response, secrets: &[&str]) -> Result<Answer, Error> {
    let status = response.status();
    let headers = response.headers().clone();
    if matches!(status.as_u16(), 408 | 429 | 500..=599) {
        let message = format!("the token server of `http.auth.oauth2` answers {status}");
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    let bytes = read(response).await?;
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map_or("", |value| {
            value.split(';').next().unwrap_or_default().trim()
        });
    let fields = parse(&bytes, media_type);
    let refused = |reason: &str| {
        let message = format!("the token server of `http.auth.oauth2` {reason}");
        let error = Error::new(ErrorKind::Forbidden, message);
        Ok(Answer::Refused(match status.as_u16() {
            400 | 401 | 403 => error.with_hint(
                "check the Secrets of `clientIDSecret` and `clientSecretSecret`, `scopes` and \
                 `endpointParams`",
            ),
            _ => error,
        }))
    };
    let Some(fields) = fields else {
        return match status.is_success() {
            true => refused(&format!(
                "sends no token, but `{}`",
                shown(media_type, secrets)
            )),
            false => refused(&format!("answers {status}")),
        };
    };
    // Some servers send an error with status 200.
    if let Some(code) = fields.error.as_deref().filter(|code| !code.is_empty()) {
        let description = fields.error_description.as_deref().unwrap_or_default();
        let said = match description {
            "" => code.to_owned(),
            description => format!("{code}: {description}"),
        };
        return refused(&format!("answers {status} ({})", shown(&said, secrets)));
    }
    if !status.is_success() {
        return refused(&format!("answers {status}"));
    }
    let Some(token) = fields.access_token.filter(|token| !token.is_empty()) else {
        return refused("sends no `access_token`");
    };
    match scheme(fields.token_type.as_deref().unwrap_or_default()) {
        Some(scheme) => Ok(Answer::Token(format!("{scheme} {token}"))),
        None => refused(&format!(
            "sends a token of the type `{}`, which is not supported",
            shown(fields.token_type.as_deref().unwrap_or_default(), secrets)
        )),
    }
}

async fn read(response: Response) -> Result<Vec<u8>, Error> {
    let origin = net::origin(response.url());
    let headers = response.headers().clone();
    let stream = response.bytes_stream().map(|chunk| {
        chunk.map_err(|error| {
            let message = "the token server of `http.auth.oauth2` closed the connection early";
            net::Error::new(net::ErrorKind::Unavailable, message).caused_by(error.without_url())
        })
    });
    let body = net::Body {
        stream: stream.boxed(),
        length: None,
    };
    let body = net::decoded(body, &headers, &origin)?;
    let bytes = body.bytes(MAX_BYTES as u64, "the answer of the token server");
    Ok(bytes.await?.to_vec())
}

/// Reads JSON; or a form, as some old servers send it.
fn parse(bytes: &[u8], media_type: &str) -> Option<Fields> {
    if let Ok(fields) = go_json::from_slice(bytes) {
        return Some(fields);
    }
    if !matches!(
        media_type,
        "application/x-www-form-urlencoded" | "text/plain"
    ) {
        return None;
    }
    let mut fields = Fields::default();
    for (key, value) in url::form_urlencoded::parse(bytes) {
        let field = match &*key {
            "access_token" => &mut fields.access_token,
            "token_type" => &mut fields.token_type,
            "error" => &mut fields.error,
            "error_description" => &mut fields.error_description,
            _ => continue,
        };
        *field = Some(value.into_owned());
    }
    let any = fields.access_token.is_some() || fields.error.is_some();
    any.then_some(fields)
}

/// The scheme of the header `Authorization` for a type of token. As in Go's client, an unknown type
/// is the scheme itself. Tokens that need a signature for each request are not supported.
fn scheme(token_type: &str) -> Option<String> {
    match token_type.to_ascii_lowercase().as_str() {
        "" | "bearer" => Some("Bearer".to_owned()),
        "basic" => Some("Basic".to_owned()),
        "mac" | "dpop" | "pop" => None,
        _ => token_type
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
            .then(|| token_type.to_owned()),
    }
}

/// A text of the server for an error: short, without control characters and without secrets.
fn shown(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "…");
    }
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(SHOWN).collect()
}
