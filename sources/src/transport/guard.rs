//! Which addresses requests may reach.
//!
//! The check is made on addresses, after name resolution, because a name can point anywhere: a registry called
//! `example.com` must not be a way to this machine or to a cloud's metadata service.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::policy::matches;
use crate::{Error, ErrorKind};

/// Hosts that the operator listed: plain HTTP is spoken to them, and they may be on this machine.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    listed: Arc<HashSet<String>>,
    /// Patterns of the only hosts that may be reached; all, if there are none.
    reachable: Arc<[String]>,
    /// Whether plain HTTP is spoken to others too.
    plain_http: bool,
}

impl Hosts {
    /// Each entry is `host` (every port) or `host:port`.
    pub fn new(entries: impl IntoIterator<Item = String>) -> Self {
        let listed = entries
            .into_iter()
            .map(|entry| entry.trim().to_ascii_lowercase())
            .collect();
        Self {
            listed: Arc::new(listed),
            ..Self::default()
        }
    }

    /// The same, and plain HTTP is spoken to hosts that are not listed too.
    #[must_use]
    pub fn in_plain_http(self) -> Self {
        Self {
            plain_http: true,
            ..self
        }
    }

    /// The same, with no other hosts to be reached than those that match one of the patterns; all, if there are none.
    #[must_use]
    pub fn only(self, patterns: impl IntoIterator<Item = String>) -> Self {
        Self {
            reachable: patterns
                .into_iter()
                .map(|pattern| pattern.to_ascii_lowercase())
                .collect(),
            ..self
        }
    }

    /// Whether `authority`, `host` or `host:port`, is listed.
    pub fn contains(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        self.listed.contains(&authority) || self.listed.contains(split_port(&authority).0)
    }

    fn contains_host(&self, host: &str) -> bool {
        self.listed.iter().any(|entry| {
            entry == host
                || entry
                    .rsplit_once(':')
                    .is_some_and(|(listed, _)| listed == host)
        })
    }

    /// Refuses a URL whose scheme or literal address is not allowed. Names are checked when they are resolved.
    pub(super) fn check(&self, url: &Url) -> Result<(), Error> {
        let host = url.host_str().unwrap_or_default();
        let authority = match url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let may_reach = |pattern: &String| matches(pattern, host) || matches(pattern, &authority);
        if !self.reachable.is_empty() && !self.reachable.iter().any(may_reach) {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("requests to `{authority}` are not allowed"),
            )
            .hint(
                "the operator lists the hosts that may be reached under `sources.policy.hosts`",
            ));
        }
        let listed = self.contains(&authority);
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        // Before the scheme, so that nobody is told how to open a metadata service.
        if let Some((address, why)) =
            literal.and_then(|address| Some((address, forbidden_address(address)?)))
            && !listed
        {
            return Err(denied(&authority, address, why));
        }
        if url.scheme() != "https" && !listed && !self.plain_http {
            return Err(Error::new(ErrorKind::Denied, format!("plain HTTP to `{authority}` is not allowed"))
                .hint(format!("use HTTPS; the operator can allow it for this host under `sources.insecure`, or with --insecure-registry {authority}")));
        }
        // The resolver does not see ports: a name that is listed with one is closed at the others.
        if literal.is_none() && !listed && self.contains_host(host) {
            let message = format!(
                "`{host}` is listed as insecure with another port than that of `{authority}`"
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        Ok(())
    }
}

/// Whether the text is `host` or `host:port`, as it is compared with those of requests.
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
    Host::parse(host).is_ok_and(|parsed| parsed.to_string() == host)
        && host.chars().all(plain)
        && port.is_none_or(is_port)
}

/// Host and port of `host[:port]`; no port is an empty one.
pub(crate) fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, ""),
    }
}

fn denied(host: &str, address: IpAddr, why: &str) -> Error {
    let error = Error::new(
        ErrorKind::Denied,
        format!("`{host}` is {address}, {why}, which requests may not reach"),
    );
    // A registry in development is on one's own machine; nobody's is at a metadata service's address.
    match address.is_loopback() {
        true => error.hint(format!(
            "the operator can allow it for this host under `sources.insecure`, or with --insecure-registry {host}"
        )),
        false => error,
    }
}

/// Why no request may go to `address`, if it may not. Private networks may be reached: clusters' registries are there.
pub fn forbidden_address(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => forbidden_v4(address),
            None => forbidden_v6(address),
        },
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("this machine")
    } else if address.is_link_local() {
        Some("a link-local address")
    } else if address.octets()[0] == 0 {
        Some("no real address")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("a group of machines")
    } else if address == Ipv4Addr::new(100, 100, 100, 200)
        || address == Ipv4Addr::new(168, 63, 129, 16)
    {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

const GOOGLE_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("this machine")
    } else if address.is_unspecified() {
        Some("no real address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a group of machines")
    } else if address.segments()[..7] == [0xfd00, 0xec2, 0, 0, 0, 0, 0]
        || address == GOOGLE_METADATA
    {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 one: the packet ends there.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let low = || Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0 | 1, ..] => Some(low()),
        [0, 0, 0, 0, 0, 0, high, low_segment] if high != 0 || low_segment > 1 => Some(low()),
        [0x2002, a, b, ..] => Some(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b))),
        _ => None,
    }
}

/// Resolves names and leaves out the addresses that may not be reached.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    hosts: Hosts,
}

impl Resolver {
    pub(super) fn new(hosts: Hosts) -> Self {
        Self { hosts }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = self.hosts.clone();
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            let listed = hosts.contains_host(&host);
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut refused = None;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| match forbidden_address(address.ip()) {
                    // A listed name may be on this machine; to reach anything else forbidden, its address must be listed.
                    Some("this machine") if listed => true,
                    Some(why) => {
                        refused = Some(denied(&host, address.ip(), why));
                        false
                    }
                    None => true,
                })
                .collect();
            match refused {
                Some(error) if allowed.is_empty() => Err(error.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_and_allowed_addresses() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::169.254.169.254",
        ] {
            assert!(forbidden_address(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "8.8.8.8",
            "2001:db8::1",
            "fd12::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(forbidden_address(text.parse().unwrap()).is_none(), "{text}");
        }
    }

    #[test]
    fn hosts_match_with_and_without_port() {
        let hosts = Hosts::new(["127.0.0.1:5000".to_owned(), "Registry.Local".to_owned()]);
        assert!(
            hosts.contains("127.0.0.1:5000")
                && !hosts.contains("127.0.0.1:5001")
                && !hosts.contains("127.0.0.1")
        );
        assert!(hosts.contains("registry.local") && hosts.contains("registry.local:8080"));
        assert!(hosts.contains_host("127.0.0.1"));
    }

    #[test]
    fn plain_http_and_literal_addresses_need_listing() {
        let none = Hosts::default();
        for url in [
            "http://example.com/",
            "https://127.0.0.1/",
            "https://[::1]:1/",
            "https://2130706433/",
            "https://0x7f.1/",
        ] {
            assert_eq!(
                none.check(&url.parse().unwrap()).unwrap_err().kind(),
                ErrorKind::Denied,
                "{url}"
            );
        }
        assert!(none.check(&"https://example.com/".parse().unwrap()).is_ok());
        assert!(
            Hosts::new(["127.0.0.1:80".to_owned()])
                .check(&"http://127.0.0.1/".parse().unwrap())
                .is_ok()
        );
    }

    #[test]
    fn only_the_hosts_that_the_operator_lists() {
        let hosts = Hosts::default().only([
            "ghcr.io".to_owned(),
            "*.Acme.com".to_owned(),
            "r.example:8443".to_owned(),
        ]);
        let allowed = |url: &str| hosts.check(&url.parse().unwrap()).is_ok();
        assert!(
            allowed("https://ghcr.io/x")
                && allowed("https://r.acme.com/x")
                && allowed("https://r.example:8443/x")
        );
        assert!(
            !allowed("https://ghcr.io.evil/x")
                && !allowed("https://acme.com/x")
                && !allowed("https://r.example/x")
        );
    }

    #[tokio::test]
    async fn a_name_for_this_machine_is_refused_unless_listed() {
        let refused = Resolver::new(Hosts::default())
            .resolve("localhost".parse().unwrap())
            .await;
        let error = refused.err().unwrap();
        assert_eq!(
            error.downcast_ref::<Error>().unwrap().kind(),
            ErrorKind::Denied
        );
        let listed = Resolver::new(Hosts::new(["localhost:5000".to_owned()]));
        assert!(listed.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
