//! The proxies in the environment. Every client of this program uses them in the same way.
//!
//! The rules are those of Go's clients (`golang.org/x/net/http/httpproxy`), and `ALL_PROXY` as in
//! curl:
//!
//! - `HTTPS_PROXY` is for HTTPS, `HTTP_PROXY` for plain HTTP. `ALL_PROXY` is used in place of a
//!   variable that is not set. A name in lower case is used if the name in upper case is not set.
//! - A proxy is a URL with the scheme `http`, `https`, `socks5` or `socks5h`. Without a scheme, it
//!   is `http`.
//! - `NO_PROXY` lists exceptions: see `Exception`. `*` means all hosts.
//! - `localhost` and loopback addresses are never reached through a proxy.

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use url::{Host, Url};

use crate::authority::authority;
use crate::{Error, ErrorKind};

const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// The proxies, and the hosts that are reached without them.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Arc<[Exception]>,
}

/// The `Debug` output has no passwords.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.as_ref().map(shown))
            .field("https", &self.https.as_ref().map(shown))
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

/// One entry of `NO_PROXY`. A port limits the entry to this port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network(IpAddr, u8),
    /// `10.1.2.3` or `10.1.2.3:8080`
    Address(IpAddr, Option<u16>),
    /// `example.com` matches this host and its subdomains; `.example.com` and `*.example.com`
    /// match subdomains only.
    Domain {
        /// Begins with a dot.
        suffix: String,
        only_below: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// The proxies in the environment of this process.
    ///
    /// # Errors
    ///
    /// A variable is not the URL of a proxy. The error does not show the URL, which may contain a
    /// password.
    pub fn from_env() -> Result<Self, Error> {
        Self::of(|name| env::var(name).ok())
    }

    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let either_case = |name: &str| {
            [name.to_owned(), name.to_ascii_lowercase()]
                .into_iter()
                .find_map(|name| Some((set(&name)?, name)))
        };
        let proxy = |name: &str| {
            either_case(name)
                .or_else(|| either_case("ALL_PROXY"))
                .map(|(value, name)| parse(&value, &name))
                .transpose()
        };
        let exceptions = either_case("NO_PROXY").map_or_else(String::new, |(list, _)| list);
        // In a CGI program, the client of the web server chooses HTTP_PROXY: the header `Proxy`.
        let is_cgi = set("REQUEST_METHOD").is_some();
        Ok(Self {
            http: if is_cgi { None } else { proxy("HTTP_PROXY")? },
            https: proxy("HTTPS_PROXY")?,
            exceptions: exceptions.split(',').filter_map(exception).collect(),
        })
    }

    /// The proxy for a URL. `None` if the URL is reached without a proxy.
    pub fn proxy(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref()?,
            "http" => self.http.as_ref()?,
            _ => return None,
        };
        let host = url.host()?;
        let port = url.port_or_known_default();
        let is_local = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let direct = is_local
            || self
                .exceptions
                .iter()
                .any(|entry| entry.matches(&host, port));
        (!direct).then_some(proxy)
    }

    /// Whether no request is sent through a proxy.
    pub(crate) fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// Whether `host` is the host of one of the proxies.
    pub(crate) fn is_proxy(&self, host: &str) -> bool {
        let mut proxies = self.http.iter().chain(&self.https);
        proxies.any(|proxy| proxy.host_str() == Some(host))
    }
}

/// The URL of a proxy without user and password: `http://proxy.example:3128`.
pub fn shown(proxy: &Url) -> String {
    format!("{}://{}", proxy.scheme(), authority(proxy))
}

fn parse(value: &str, variable: &str) -> Result<Url, Error> {
    let value = value.trim();
    let url = match value.contains("://") {
        true => Url::parse(value),
        false => Url::parse(&format!("http://{value}")),
    };
    url.ok()
        .filter(|url| SCHEMES.contains(&url.scheme()) && url.has_host())
        .ok_or_else(|| {
            let message = format!("the environment variable {variable} is not the URL of a proxy");
            Error::new(ErrorKind::InvalidConfig, message).with_hint(
                "write it like `http://HOST:PORT`, or with `https`, `socks5` or `socks5h`",
            )
        })
}

/// Parses one entry of `NO_PROXY`. `None` if the entry is malformed; it is ignored, as in Go.
fn exception(entry: &str) -> Option<Exception> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return Some(Exception::All);
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let bits = bits.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= most).then_some(Exception::Network(address, bits));
    }
    if let Ok(address) = entry.parse() {
        return Some(Exception::Address(address, None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry.as_str(), None),
    };
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(Exception::Address(address, port));
    }
    let host = host
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(host);
    let name = host.trim_start_matches('.');
    (!name.is_empty()).then(|| Exception::Domain {
        suffix: format!(".{name}"),
        only_below: host.starts_with('.'),
        port,
    })
}

impl Exception {
    fn matches(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        };
        match (self, host, address) {
            (Self::All, ..) => true,
            (Self::Network(network, bits), _, Some(address)) => {
                in_network(address, *network, *bits)
            }
            (Self::Address(listed, only), _, Some(address)) => {
                *listed == address && (only.is_none() || *only == port)
            }
            (
                Self::Domain {
                    suffix,
                    only_below,
                    port: only,
                },
                Host::Domain(name),
                _,
            ) => {
                let name = name.trim_end_matches('.');
                let is_itself = !only_below && *name == suffix[1..];
                (is_itself || name.ends_with(suffix.as_str())) && (only.is_none() || *only == port)
            }
            _ => false,
        }
    }
}

/// Whether the first `bits` bits of both addresses are equal.
fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(address) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(address) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        Proxies::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = of(variables).unwrap();
        proxies.proxy(&url.parse().unwrap()).map(shown)
    }

    #[test]
    fn the_scheme_of_the_url_chooses_the_variable() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2")];
        assert_eq!(proxy(&both, "https://a").as_deref(), Some("http://s:1"));
        assert_eq!(proxy(&both, "http://a").as_deref(), Some("http://p:2"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "s:1")], "http://a"), None);
        let all = [("ALL_PROXY", "socks5h://all:1080"), ("HTTPS_PROXY", "")];
        assert_eq!(
            proxy(&all, "https://a").as_deref(),
            Some("socks5h://all:1080")
        );
        let cases = [("HTTPS_PROXY", "u:1"), ("https_proxy", "l:1")];
        assert_eq!(proxy(&cases, "https://a").as_deref(), Some("http://u:1"));
        assert_eq!(
            proxy(&[("HTTPS_PROXY", " "), ("https_proxy", "l:1")], "https://a").as_deref(),
            Some("http://l:1")
        );
        assert_eq!(proxy(&[], "https://a"), None);
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "p:1")];
        assert_eq!(proxy(&cgi, "http://a"), None);
    }

    /// The cases of `TestUseProxy` and of the documentation of Go's `httpproxy`.
    #[test]
    fn exceptions_match_as_in_go() {
        for (list, url, direct) in [
            ("", "https://a.example", false),
            ("*", "https://a.example", true),
            ("x,*", "https://10.1.2.3", true),
            ("example.com", "https://example.com", true),
            ("example.com", "https://EXAMPLE.com.", true),
            ("Example.COM", "https://a.b.example.com:8443/x", true),
            ("example.com", "https://notexample.com", false),
            (".example.com", "https://a.example.com", true),
            (".example.com", "https://example.com", false),
            ("*.example.com", "https://a.example.com", true),
            ("*.example.com", "https://example.com", false),
            ("example.com:443", "https://example.com", true),
            ("example.com:8443", "https://example.com", false),
            ("a, 10.1.2.3 ,b", "https://10.1.2.3:6443", true),
            ("10.1.2.3:6443", "https://10.1.2.3:6443", true),
            ("10.1.2.3:6443", "https://10.1.2.3", false),
            ("10.0.0.0/8", "https://10.255.0.1", true),
            ("10.0.0.0/8", "https://11.0.0.1", false),
            ("10.0.0.0/8", "https://a.example", false),
            ("0.0.0.0/0", "https://11.0.0.1", true),
            ("10.1.2.3/32", "https://10.1.2.3", true),
            ("fd00::/8", "https://[fd12::1]:6443", true),
            ("fd00::/8", "https://[fe80::1]", false),
            ("2001:db8::1", "https://[2001:db8::1]", true),
            ("[2001:db8::1]:6443", "https://[2001:db8::1]:6443", true),
            ("[2001:db8::1]:6443", "https://[2001:db8::1]:443", false),
            ("2001:db8::1", "https://[2001:db8::2]", false),
            // Malformed entries are ignored.
            (
                ",,/, 10.0.0.0/99,169.254/16,a:b, .,:80,example.com",
                "https://example.com",
                true,
            ),
            (
                ",,/, 10.0.0.0/99,169.254/16,a:b, .,:80",
                "https://10.1.2.3",
                false,
            ),
            // This machine is never reached through a proxy.
            ("", "https://localhost:5000", true),
            ("", "https://127.0.0.9", true),
            ("", "https://[::1]:5000", true),
        ] {
            let found = proxy(&[("HTTPS_PROXY", "p:1"), ("no_proxy", list)], url);
            assert_eq!(found.is_none(), direct, "`{list}` {url}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let proxies = of(&[("HTTPS_PROXY", "http://user:hunter2@p:3128/x?y")]).unwrap();
        let url = "https://a".parse().unwrap();
        assert_eq!(shown(proxies.proxy(&url).unwrap()), "http://p:3128");
        assert!(!format!("{proxies:?}").contains("hunter2"));
        for wrong in [
            "ftp://hunter2:1",
            "http://",
            "http://a:hunter2",
            "socks9://hunter2",
        ] {
            let error = of(&[("https_proxy", wrong)]).unwrap_err().to_string();
            assert_eq!(
                error,
                "the environment variable https_proxy is not the URL of a proxy"
            );
        }
    }
}
