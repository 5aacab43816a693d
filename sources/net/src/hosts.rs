//! The SSRF guard: the hosts that requests may reach.
//!
//! Workflow authors choose hosts, and registries choose redirects. Without a guard, both could make
//! this program send requests to this machine or to a cloud's metadata service (server-side request
//! forgery).
//!
//! - The URL of each request is checked before it is sent, also after a redirect (`Hosts::check`).
//! - Addresses are checked after name resolution (`resolver.rs`), because a name can resolve to any
//!   address. The connection uses the checked addresses only. DNS rebinding, a second answer with
//!   another address, therefore has no effect.
//! - The operator can allow plain HTTP and loopback addresses for listed hosts, and can restrict
//!   all requests to some hosts.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use url::{Host, Url};

use crate::addresses::{Forbidden, classify};
use crate::authority::{canonical, split_port};
use crate::pattern::matches_any;
use crate::{Error, ErrorKind};

/// The operator's rules for hosts.
///
/// By default, plain HTTP is allowed only to listed hosts. [`Hosts::in_plain_http`] allows plain
/// HTTP to all hosts. A listed host may also be on this machine.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    listed: Arc<HashSet<String>>,
    /// The hosts that may be reached. A host must match every list.
    reachable: Vec<Arc<Reachable>>,
    /// Whether plain HTTP is allowed to hosts that are not listed.
    plain_http: bool,
}

/// A list of hosts that may be reached.
#[derive(Debug)]
struct Reachable {
    patterns: Vec<String>,
    /// The key of the list in the configuration.
    place: String,
}

impl Hosts {
    /// Rules with these listed hosts. An entry is `host`, which covers all ports, or `host:port`.
    pub fn new(entries: impl IntoIterator<Item = String>) -> Self {
        let listed = entries.into_iter().map(|entry| canonical(&entry)).collect();
        Self {
            listed: Arc::new(listed),
            ..Self::default()
        }
    }

    /// Allows plain HTTP to hosts that are not listed, too.
    #[must_use]
    pub fn in_plain_http(self) -> Self {
        Self {
            plain_http: true,
            ..self
        }
    }

    /// Allows only hosts that match one of the patterns. Without patterns, nothing changes. Errors
    /// name `place`, the key of the list in the configuration.
    #[must_use]
    pub fn only(mut self, patterns: &[String], place: &str) -> Self {
        if !patterns.is_empty() {
            let lower = patterns.iter().map(|pattern| pattern.to_ascii_lowercase());
            self.reachable.push(Arc::new(Reachable {
                patterns: lower.collect(),
                place: place.to_owned(),
            }));
        }
        self
    }

    /// Whether `authority` (`host` or `host:port`) is listed.
    pub fn contains(&self, authority: &str) -> bool {
        let authority = canonical(authority);
        self.listed.contains(&authority) || self.listed.contains(split_port(&authority).0)
    }

    /// Whether `host` is listed, with any port or with none.
    pub(crate) fn contains_host(&self, host: &str) -> bool {
        self.listed.iter().any(|entry| split_port(entry).0 == host)
    }

    /// Checks whether requests to `authority` (`host` or `host:port`) are allowed. For the header
    /// `Host`: a server can serve other hosts at the same address.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`]: a list of [`only`](Self::only) does not have the host.
    pub fn check_name(&self, authority: &str) -> Result<(), Error> {
        let authority = canonical(authority);
        self.check_reachable(split_port(&authority).0, &authority)
    }

    /// Checks host, literal address and scheme of a URL. Names are checked when they are resolved.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Error> {
        // A name with a dot at its end is the same name.
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let authority = match url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        self.check_reachable(host, &authority)?;
        if self.contains(&authority) {
            return Ok(());
        }
        let literal = literal_address(url);
        // The address is checked before the scheme. Otherwise the hint would explain how to allow
        // a metadata service.
        if let Some(address) = literal
            && let Some(why) = classify(address)
        {
            return Err(denied(&authority, address, why));
        }
        if url.scheme() != "https" && !self.plain_http {
            let message = format!("plain HTTP to `{authority}` is not allowed");
            return Err(Error::new(ErrorKind::Denied, message).with_hint(format!(
                "use HTTPS, or ask the operator to allow plain HTTP for this host under \
                 `sources.insecure` or with --insecure-registry {authority}"
            )));
        }
        // The resolver does not see ports, so a name that is listed with one port is refused here
        // with any other port.
        if literal.is_none() && self.contains_host(host) {
            let message = format!(
                "`sources.insecure` lists `{host}`, but not with the port of `{authority}`"
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        Ok(())
    }

    fn check_reachable(&self, host: &str, authority: &str) -> Result<(), Error> {
        let may_reach = |list: &Arc<Reachable>| {
            matches_any(&list.patterns, host) || matches_any(&list.patterns, authority)
        };
        let Some(list) = self.reachable.iter().find(|list| !may_reach(list)) else {
            return Ok(());
        };
        let message = format!("the operator does not allow requests to `{authority}`");
        let hint = format!("ask the operator to list the host under {}", list.place);
        Err(Error::new(ErrorKind::Denied, message).with_hint(hint))
    }
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    }
}

/// The error for a host with a forbidden address.
pub(crate) fn denied(host: &str, address: IpAddr, why: Forbidden) -> Error {
    let message = format!(
        "`{host}` has the address {address} ({why}), and requests to such addresses are refused"
    );
    let error = Error::new(ErrorKind::Denied, message);
    // A developer's registry may be on this machine. A registry in a test network may have a
    // reserved address. A registry is never at another forbidden address.
    let may_be_registry = address.is_loopback() || matches!(why, Forbidden::SpecialPurpose(_));
    match may_be_registry {
        true => error.with_hint(format!(
            "ask the operator to allow this host under `sources.insecure` or with \
             --insecure-registry {host}"
        )),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let hosts = Hosts::new(["[0:0::1]:5000".to_owned(), "[fd00::A]".to_owned()]);
        assert!(hosts.contains("[::1]:5000") && hosts.contains("[fd00::a]:80"));
        assert!(!hosts.contains("[::1]:5001") && !hosts.contains("[::1]"));
        assert!(hosts.check(&"http://[::1]:5000/".parse().unwrap()).is_ok());
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
    fn a_dot_behind_a_host_changes_nothing() {
        let hosts = Hosts::new(["registry.local:5000".to_owned()]);
        let check = |url: &str| hosts.check(&url.parse().unwrap());
        assert!(check("http://registry.local.:5000/v2/").is_ok());
        let other_port = check("https://registry.local.:8443/v2/").unwrap_err();
        assert_eq!(other_port.kind(), ErrorKind::Denied);
    }

    #[test]
    fn patterns_restrict_the_reachable_hosts() {
        let all = ["ghcr.io", "*.Acme.com", "r.example:8443"].map(str::to_owned);
        let hosts = Hosts::default().only(&all, "`all`");
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
        let narrower = hosts.only(&["*.io".to_owned(), "evil".to_owned()], "`some`");
        let check = |url: &str| narrower.check(&url.parse().unwrap());
        assert!(check("https://ghcr.io/x").is_ok());
        assert!(narrower.check_name("GHCR.io").is_ok());
        assert!(narrower.check_name("r.acme.com:80").is_err());
        for (url, place) in [
            ("https://evil/", "`all`"),
            ("https://r.acme.com/", "`some`"),
        ] {
            let error = check(url).unwrap_err();
            assert!(error.hint().unwrap_or_default().ends_with(place), "{url}");
        }
    }
}
