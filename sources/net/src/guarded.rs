//! The HTTP library with the address guard in front of it.

use std::sync::Arc;

use reqwest::dns::Resolve;

use crate::no_response::{no_login, no_response};
use crate::resolver::{OfMachine, Resolver};
use crate::{Error, ErrorKind, Hosts, Identity, Proxies, Trust};

const PROXY_AUTHENTICATION_REQUIRED: reqwest::StatusCode =
    reqwest::StatusCode::PROXY_AUTHENTICATION_REQUIRED;

/// A client that sends each request once, to allowed addresses only. It does not follow redirects.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// For requests without a proxy. Each address is checked as the connection is made, also the
    /// addresses of a name that is the host of a proxy.
    direct: reqwest::Client,
    /// For requests through a proxy, which may have any address. `None` without proxies.
    proxied: Option<reqwest::Client>,
    hosts: Hosts,
    proxies: Proxies,
    /// The name of the configuration that lists trusted certificates.
    trusted_by: &'static str,
}

impl Guarded {
    /// A client with the settings of `builder`, with the guard in front of it. Redirects, retries,
    /// proxies and TLS of the builder are replaced. The proxies are those of the environment.
    ///
    /// # Errors
    ///
    /// - A proxy in the environment is malformed.
    /// - The client certificate and its key do not fit together.
    /// - The HTTP library cannot be set up.
    pub fn new(
        hosts: Hosts,
        builder: impl Fn() -> reqwest::ClientBuilder,
        trust: &Trust,
        identity: Option<Identity>,
    ) -> Result<Self, Error> {
        let lookup: Arc<dyn Resolve> = Arc::new(OfMachine);
        Self::with_lookup(
            hosts,
            builder,
            trust,
            identity,
            Proxies::from_env()?,
            &lookup,
        )
    }

    fn with_lookup(
        hosts: Hosts,
        builder: impl Fn() -> reqwest::ClientBuilder,
        trust: &Trust,
        identity: Option<Identity>,
        proxies: Proxies,
        lookup: &Arc<dyn Resolve>,
    ) -> Result<Self, Error> {
        let tls = trust.client_config(identity)?;
        let build = |builder: reqwest::ClientBuilder, resolver: Resolver| {
            let builder = builder
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .dns_resolver(resolver);
            builder.build().map_err(|error| {
                Error::new(ErrorKind::Unavailable, "the HTTP client cannot be set up")
                    .caused_by(error)
                    .permanent()
            })
        };
        let resolver = || Resolver::new(Arc::clone(lookup), hosts.clone());
        let direct = build(builder().no_proxy(), resolver())?;
        let proxied = if proxies.is_empty() {
            None
        } else {
            let chosen = proxies.clone();
            let proxy = reqwest::Proxy::custom(move |url| chosen.proxy(url).cloned());
            let resolver = resolver().with_proxies(proxies.clone());
            Some(build(builder().proxy(proxy), resolver)?)
        };
        Ok(Self {
            direct,
            proxied,
            hosts,
            proxies,
            trusted_by: trust.place(),
        })
    }

    /// The hosts that the operator lists.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The same client, for fewer hosts. `hosts` is a value of [`hosts`](Self::hosts) that
    /// [`Hosts::only`] has narrowed.
    #[must_use]
    pub fn with_hosts(&self, hosts: Hosts) -> Self {
        Self {
            hosts,
            ..self.clone()
        }
    }

    /// Sends one request.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        let url = request.url().clone();
        self.hosts.check(&url)?;
        let proxy = self.proxies.proxy(&url);
        let client = match (proxy, &self.proxied) {
            (Some(_), Some(proxied)) => proxied,
            _ => &self.direct,
        };
        let response = client.execute(request).await;
        let response =
            response.map_err(|error| no_response(&url, proxy, self.trusted_by, error))?;
        match proxy {
            Some(proxy) if response.status() == PROXY_AUTHENTICATION_REQUIRED => {
                Err(no_login(proxy))
            }
            _ => Ok(response),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::{IpAddr, SocketAddr};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use parking_lot::Mutex;
    use reqwest::dns::{Addrs, Name, Resolving};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each connection with 418, and counts the connections.
    async fn server() -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = client.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 418 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = client.write_all(answer).await;
            }
        });
        (port, connections)
    }

    /// Gives each look-up of any name the next address.
    struct Addresses(Mutex<VecDeque<IpAddr>>);

    impl Resolve for Addresses {
        fn resolve(&self, _: Name) -> Resolving {
            let address = self.0.lock().pop_front().unwrap();
            let addresses = std::iter::once(SocketAddr::new(address, 0));
            Box::pin(std::future::ready(Ok(Box::new(addresses) as Addrs)))
        }
    }

    /// A client that uses this proxy, except for the host of the proxy.
    fn behind_proxy(port: u16, addresses: &[&str]) -> Guarded {
        let proxies = Proxies::of(|name| match name {
            "HTTP_PROXY" | "HTTPS_PROXY" => Some(format!("http://p.example:{port}")),
            "NO_PROXY" => Some("p.example".to_owned()),
            _ => None,
        });
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        let lookup = Addresses(Mutex::new(addresses.collect()));
        let lookup: Arc<dyn Resolve> = Arc::new(lookup);
        let builder = || reqwest::Client::builder().connect_timeout(Duration::from_millis(50));
        Guarded::with_lookup(
            Hosts::new(["r.example".to_owned()]),
            builder,
            &Trust::machine_and([""; 0], "`sources.ca`").unwrap(),
            None,
            proxies.unwrap(),
            &lookup,
        )
        .unwrap()
    }

    async fn send(guarded: &Guarded, url: &str) -> Result<reqwest::Response, Error> {
        let request = reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
        guarded.execute(request).await
    }

    /// A name can have another address for each look-up (DNS rebinding). So the addresses are
    /// checked in the look-up of the connection.
    #[tokio::test]
    async fn the_checked_address_is_the_address_of_the_connection() {
        let (port, connections) = server().await;
        let guarded = behind_proxy(port, &["10.255.255.1", "127.0.0.1"]);
        let url = format!("https://p.example:{port}/");
        let no_answer = send(&guarded, &url).await.unwrap_err();
        assert_ne!(no_answer.kind(), ErrorKind::Denied, "10.255.255.1");
        assert_eq!(connections.load(Ordering::Relaxed), 0, "127.0.0.1");
        let denied = send(&guarded, &url).await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Denied);
        assert_eq!(connections.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_host_of_a_proxy_may_have_any_address_as_the_proxy_only() {
        let (port, connections) = server().await;
        let guarded = behind_proxy(port, &["127.0.0.1"; 2]);
        let denied = send(&guarded, &format!("https://p.example:{port}/")).await;
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(connections.load(Ordering::Relaxed), 0);
        let answer = send(&guarded, "http://r.example/").await.unwrap();
        assert_eq!(answer.status(), 418, "the proxy answers");
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }
}
