//! Hosts, ports and URLs as text: parsing, comparison, and redaction for readers.

use url::{Host, Url};

/// Whether the text is `host` or `host:port`, in the form in which it is compared with requests.
pub fn is_host(text: &str) -> bool {
    let split = text
        .rsplit_once(':')
        .filter(|_| !text.ends_with(']'))
        .map(|(host, port)| (host, Some(port)));
    let (host, port) = split.unwrap_or((text, None));
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
    Host::parse(host).is_ok_and(|parsed| parsed.to_string() == host)
        && host.chars().all(is_plain)
        && port.is_none_or(is_port)
}

/// Splits `host[:port]`. The port is empty if the text has none.
pub fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, ""),
    }
}

/// The URL's host, with the port if that is not the default of the URL's scheme.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Scheme, host and port of the URL in backticks, for error messages.
pub fn origin(url: &Url) -> String {
    format!("`{}`", url.origin().ascii_serialization())
}

/// The URL without user, password, fragment and query. The query is replaced by `?…`: it may hold a
/// signature.
pub fn display_url(url: &Url) -> String {
    let mut url = url.clone();
    let has_query = url.query().is_some();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if has_query {
        format!("{url}?…")
    } else {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displayed_urls_have_no_secrets() {
        let shown = |text: &str| display_url(&text.parse().unwrap());
        assert_eq!(
            shown("https://user:hunter2@h/m?sig=secret#f"),
            "https://h/m?…"
        );
        assert_eq!(shown("https://h:8443/m"), "https://h:8443/m");
    }

    #[test]
    fn default_ports_are_left_out() {
        let name = |text: &str| authority(&text.parse().unwrap());
        assert_eq!(name("https://h:443/x"), "h");
        assert_eq!(name("http://h:443/x"), "h:443");
    }

    #[test]
    fn hosts_are_written_as_requests_have_them() {
        for text in ["h", "h:5000", "127.0.0.1", "[::1]:80"] {
            assert!(is_host(text), "{text}");
        }
        for text in ["", "H", "0x7f.1", "h/x", "h:x", "h:65536"] {
            assert!(!is_host(text), "{text}");
        }
    }
}
