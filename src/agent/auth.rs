//! Authentication of callers: the bearer token that Argo's init container wrote.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

/// Which callers are allowed.
#[derive(Clone)]
pub enum Auth {
    /// Callers that send this bearer token.
    Token(String),
    /// All callers. Only for a loopback address.
    Open,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Open => "Open",
        })
    }
}

impl Auth {
    /// Whether a request with these headers is allowed. The comparison takes the same time for
    /// each wrong token.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let token = match self {
            Self::Token(token) => token,
            Self::Open => return true,
        };
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let (scheme, given) = given
            .and_then(|value| value.split_once(' '))
            .unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer")
            && bool::from(given.as_bytes().ct_eq(token.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_with_the_token_are_allowed() {
        let auth = Auth::Token("secret".to_owned());
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert!(auth.allows(&with("Bearer secret")) && auth.allows(&with("bearer secret")));
        for value in [
            "Bearer secre",
            "Bearer secrets",
            "secret",
            "Basic secret",
            "Bearer ",
        ] {
            assert!(!auth.allows(&with(value)), "{value}");
        }
        assert!(!auth.allows(&HeaderMap::new()));
        assert!(Auth::Open.allows(&HeaderMap::new()));
        assert_eq!(format!("{auth:?}"), "Token");
    }
}
