//! Hosts, ports and URLs as text: parsing, comparison, and redaction for readers.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use url::{Host, Url};

/// A host with an optional port. `Display` writes the form in which hosts are compared with
/// requests: lower case, the usual form of an IP address, and an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    host: Host<String>,
    port: Option<u16>,
}

/// The reason why a text is not a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The text is not `host` or `host:port`.
    #[error("it must be a host with an optional port, such as `registry.example.com:5000`")]
    Host,
    /// The port is not a number, or too large.
    #[error("its port must be a number up to 65535")]
    Port,
    /// The colons of an address could be read as the beginning of a port.
    #[error("an IPv6 address must be in brackets, such as `[::1]` or `[::1]:5000`")]
    Brackets,
    /// A zone names an interface of one machine, and means nothing elsewhere.
    #[error("an IPv6 address must not have a zone (`%` and a name)")]
    Zone,
}

impl Authority {
    /// The host. An IPv6 address is in brackets.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// The port, if the text has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same host. The port is left out if it is the default port of HTTPS.
    #[must_use]
    pub fn without_https_port(self) -> Self {
        Self {
            port: self.port.filter(|port| *port != 443),
            ..self
        }
    }
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        // A URL, or a host with a path.
        if text.contains('/') {
            return Err(AuthorityError::Host);
        }
        let (host, port) = match text.starts_with('[') {
            true => {
                let end = text.find(']').ok_or(AuthorityError::Brackets)? + 1;
                let port = text[end..].strip_prefix(':');
                if port.is_none() && end < text.len() {
                    return Err(AuthorityError::Host);
                }
                (&text[..end], port)
            }
            false => match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => return Err(without_brackets(text)),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.starts_with('[') && host.contains('%') {
            return Err(AuthorityError::Zone);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
        let parsed = Host::parse(host).ok();
        let parsed = parsed.filter(|_| host.chars().all(is_plain));
        Ok(Self {
            host: parsed.ok_or(AuthorityError::Host)?,
            port: port.map(parse_port).transpose()?,
        })
    }
}

/// The reason why a text with several colons, and without brackets, is not a host.
fn without_brackets(text: &str) -> AuthorityError {
    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
    let is_address = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let before_port = address.rsplit_once(':').map_or("", |(address, _)| address);
    match (
        is_address(address) || is_address(before_port),
        zone.is_empty(),
    ) {
        (true, true) => AuthorityError::Brackets,
        (true, false) => AuthorityError::Zone,
        (false, _) => AuthorityError::Host,
    }
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok();
    port.filter(|_| digits).ok_or(AuthorityError::Port)
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The form in which `host` or `host:port` is compared with requests. Another text is only changed
/// to lower case.
pub(crate) fn canonical(text: &str) -> String {
    let text = text.trim();
    text.parse().map_or_else(
        |_| text.to_ascii_lowercase(),
        |host: Authority| host.to_string(),
    )
}

/// Whether the text is `host` or `host:port`, in the form in which it is compared with requests.
pub fn is_host(text: &str) -> bool {
    text.parse()
        .is_ok_and(|host: Authority| host.to_string() == text)
}

/// Splits `host[:port]`. The port is empty if the text has none. An IPv6 address is in brackets.
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
        for text in ["h", "h:5000", "127.0.0.1", "[::1]:80", "[fd00::a]"] {
            assert!(is_host(text), "{text}");
        }
        for text in [
            "", "H", "0x7f.1", "h/x", "h:x", "h:65536", "[::1]x", "[::1]:", "[0::1]", "[]", "[::1",
        ] {
            assert!(!is_host(text), "{text}");
        }
    }

    #[test]
    fn one_host_has_one_form() {
        for (text, one) in [
            ("Registry.Local:05000", "registry.local:5000"),
            ("0x7f.1", "127.0.0.1"),
            ("[0:0:0:0:0:0:0:1]:5000", "[::1]:5000"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
            ("[::ffff:10.0.0.1]:1", "[::ffff:a00:1]:1"),
        ] {
            assert_eq!(canonical(text), one, "{text}");
            assert!(is_host(one), "{one}");
        }
    }

    #[test]
    fn the_reason_why_a_text_is_not_a_host_is_named() {
        for (text, reason) in [
            ("::1", AuthorityError::Brackets),
            ("::1:5000", AuthorityError::Brackets),
            ("1:2:3:4:5:6:7:8:5000", AuthorityError::Brackets),
            ("a:b:c", AuthorityError::Host),
            ("[::1", AuthorityError::Brackets),
            ("[fe80::1%25eth0]:5000", AuthorityError::Zone),
            ("[fe80::1%eth0]", AuthorityError::Zone),
            ("fe80::1%eth0", AuthorityError::Zone),
            ("[::1]:x", AuthorityError::Port),
            ("h:65536", AuthorityError::Port),
            ("h:+1", AuthorityError::Port),
            ("http://h:1", AuthorityError::Host),
            ("http://h", AuthorityError::Host),
            ("h:1/x", AuthorityError::Host),
            ("[::g]", AuthorityError::Host),
            ("a b", AuthorityError::Host),
        ] {
            assert_eq!(text.parse::<Authority>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn the_port_of_an_ipv6_address_is_behind_the_brackets() {
        for (text, host, port) in [
            ("[::1]:5000", "[::1]", "5000"),
            ("[::1]", "[::1]", ""),
            ("h:1", "h", "1"),
        ] {
            assert_eq!(split_port(text), (host, port));
        }
    }
}
