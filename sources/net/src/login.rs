//! The header `Authorization: Basic …` (RFC 7617).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::header::HeaderValue;
use url::Url;

use crate::request::sensitive;

/// The value of `Authorization` for a user and a password.
pub fn basic(user: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    // base64 has only characters that a header can have.
    sensitive(&format!("Basic {encoded}")).unwrap_or_else(|| HeaderValue::from_static("Basic"))
}

/// Removes a user and a password from the URL, and returns them as the value of `Authorization`.
/// Go's client and curl do the same. `None` if the URL has neither.
pub fn take_login(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Some(basic(&user, &password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_leaves_the_url() {
        let mut url: Url = "https://a%40b:p%3Aw@h.example/x".parse().unwrap();
        let value = take_login(&mut url).unwrap();
        assert_eq!(url.as_str(), "https://h.example/x");
        // `a@b:p:w`
        assert_eq!(value, "Basic YUBiOnA6dw==");
        assert!(value.is_sensitive());
        assert!(take_login(&mut url).is_none());
    }
}
