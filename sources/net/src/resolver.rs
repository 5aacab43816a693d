//! Name resolution that leaves out forbidden addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::addresses::{Forbidden, classify};
use crate::hosts::denied;
use crate::{Error, Hosts, Proxies};

/// Resolves names and leaves out the addresses that no request may reach.
pub(crate) struct Resolver {
    lookup: Arc<dyn Resolve>,
    hosts: Hosts,
    /// The hosts whose addresses are all allowed.
    proxies: Proxies,
}

impl Resolver {
    pub(crate) fn new(lookup: Arc<dyn Resolve>, hosts: Hosts) -> Self {
        Self {
            lookup,
            hosts,
            proxies: Proxies::default(),
        }
    }

    /// Allows each address of the proxies, which the operator chooses. Only for a client that sends
    /// all its requests through them.
    pub(crate) fn with_proxies(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        if self.proxies.is_proxy(name.as_str()) {
            return self.lookup.resolve(name);
        }
        let hosts = self.hosts.clone();
        let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        let found = self.lookup.resolve(name);
        Box::pin(async move {
            let allowed = allowed_addresses(&hosts, &host, found.await?)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Resolves names as the machine does.
pub(crate) struct OfMachine;

impl Resolve for OfMachine {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a host that requests may reach.
///
/// # Errors
///
/// All addresses are forbidden.
fn allowed_addresses(hosts: &Hosts, host: &str, found: Addrs) -> Result<Vec<SocketAddr>, Error> {
    let listed = hosts.contains_host(host);
    let mut refused = None;
    let mut allowed: Vec<SocketAddr> = Vec::new();
    for address in found {
        match classify(address.ip()) {
            None => allowed.push(address),
            // A listed name may be on this machine, or in a test network with reserved addresses.
            // For other forbidden addresses the operator has to list the address itself.
            Some(Forbidden::ThisMachine | Forbidden::SpecialPurpose(_)) if listed => {
                allowed.push(address);
            }
            Some(why) => refused = Some(denied(host, address.ip(), why)),
        }
    }
    match refused {
        Some(error) if allowed.is_empty() => Err(error),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn a_name_for_this_machine_is_refused_unless_listed() {
        let refused = Resolver::new(Arc::new(OfMachine), Hosts::default())
            .resolve("localhost".parse().unwrap())
            .await;
        let error = refused.err().unwrap();
        assert_eq!(
            error.downcast_ref::<Error>().unwrap().kind(),
            ErrorKind::Denied
        );
        let listed = Resolver::new(
            Arc::new(OfMachine),
            Hosts::new(["localhost:5000".to_owned()]),
        );
        assert!(listed.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
