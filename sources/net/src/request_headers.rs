//! Request headers that only the HTTP client sets.

use reqwest::header::HeaderName;

/// The headers that decide where a request goes, where its content ends, and how long the
/// connection lasts. With a wrong value, a server or a proxy would read a different request.
///
/// These are `Host`, the headers of message framing (RFC 9112, section 6), `Expect`, and the
/// hop-by-hop headers (RFC 9110, section 7.6.1). `Connection` can name further hop-by-hop headers,
/// so it is in the list itself.
const SET_BY_CLIENT: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether only the HTTP client may set this header: a template or a Secret must not.
pub fn is_set_by_client(name: &HeaderName) -> bool {
    SET_BY_CLIENT.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_are_set_by_the_client_only() {
        let is_reserved = |name: &str| is_set_by_client(&HeaderName::try_from(name).unwrap());
        for name in [
            "Host",
            "Transfer-Encoding",
            "TE",
            "Trailer",
            "Expect",
            "Keep-Alive",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in [
            "Authorization",
            "Range",
            "X-Forwarded-For",
            "Accept-Encoding",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
