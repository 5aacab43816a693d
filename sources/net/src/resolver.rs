//! Name resolution that leaves out forbidden addresses.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::addresses::{Forbidden, classify};
use crate::hosts::denied;
use crate::{Hosts, Proxies};

/// Resolves names and leaves out the addresses that no request may reach.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    hosts: Hosts,
    /// The hosts whose addresses are all allowed.
    proxies: Proxies,
}

impl Resolver {
    pub(crate) fn new(hosts: Hosts) -> Self {
        Self {
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
        let hosts = self.hosts.clone();
        let is_proxy = self.proxies.is_proxy(name.as_str());
        Box::pin(async move {
            let addresses = match is_proxy {
                true => lookup(name.as_str()).await?,
                false => allowed_addresses(&hosts, name.as_str()).await?,
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

async fn lookup(name: &str) -> std::io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

/// The addresses of a name that requests may reach.
///
/// # Errors
///
/// The name does not resolve, or all its addresses are forbidden.
async fn allowed_addresses(
    hosts: &Hosts,
    name: &str,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let host = name.trim_end_matches('.').to_ascii_lowercase();
    let listed = hosts.contains_host(&host);
    let mut refused = None;
    let mut allowed: Vec<SocketAddr> = Vec::new();
    for address in lookup(name).await? {
        match classify(address.ip()) {
            None => allowed.push(address),
            // A listed name may be on this machine, or in a test network with reserved addresses.
            // For other forbidden addresses the operator has to list the address itself.
            Some(Forbidden::ThisMachine | Forbidden::SpecialPurpose(_)) if listed => {
                allowed.push(address);
            }
            Some(why) => refused = Some(denied(&host, address.ip(), why)),
        }
    }
    match refused {
        Some(error) if allowed.is_empty() => Err(error.into()),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};

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
