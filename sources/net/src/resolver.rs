//! Name resolution that leaves out forbidden addresses.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Hosts;
use crate::addresses::{Forbidden, classify};
use crate::hosts::denied;

/// Resolves names and leaves out the addresses that no request may reach.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    hosts: Hosts,
}

impl Resolver {
    pub(crate) fn new(hosts: Hosts) -> Self {
        Self { hosts }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = self.hosts.clone();
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            let listed = hosts.contains_host(&host);
            let mut refused = None;
            let mut allowed: Vec<SocketAddr> = Vec::new();
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match classify(address.ip()) {
                    None => allowed.push(address),
                    // A listed name may be on this machine. For other forbidden addresses the
                    // operator has to list the address itself.
                    Some(Forbidden::ThisMachine) if listed => allowed.push(address),
                    Some(why) => refused = Some(denied(&host, address.ip(), why)),
                }
            }
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
