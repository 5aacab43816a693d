//! The HTTP library with the address guard in front of it.

use crate::no_response::{no_login, no_response};
use crate::resolver::Resolver;
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
        Self::with_proxies(hosts, builder, trust, identity, Proxies::from_env()?)
    }

    fn with_proxies(
        hosts: Hosts,
        builder: impl Fn() -> reqwest::ClientBuilder,
        trust: &Trust,
        identity: Option<Identity>,
        proxies: Proxies,
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
        let direct = build(builder().no_proxy(), Resolver::new(hosts.clone()))?;
        let proxied = if proxies.is_empty() {
            None
        } else {
            let chosen = proxies.clone();
            let proxy = reqwest::Proxy::custom(move |url| chosen.proxy(url).cloned());
            let resolver = Resolver::new(hosts.clone()).with_proxies(proxies.clone());
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each connection with 418, and counts the connections.
    async fn server() -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("localhost:0").await.unwrap();
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

    /// A name can have another address for each connection (DNS rebinding). So the addresses of a
    /// direct connection are checked even if the name is the host of a proxy.
    #[tokio::test]
    async fn the_host_of_a_proxy_is_allowed_as_the_proxy_only() {
        let (port, connections) = server().await;
        // Requests to `localhost` are never sent through a proxy.
        let proxies = Proxies::of(|name| {
            let is_proxy = matches!(name, "HTTP_PROXY" | "HTTPS_PROXY");
            is_proxy.then(|| format!("http://localhost:{port}"))
        });
        let hosts = Hosts::new(["r.example".to_owned()]);
        let trust = Trust::machine_and([""; 0], "`sources.ca`").unwrap();
        let builder = reqwest::Client::builder;
        let guarded =
            Guarded::with_proxies(hosts, builder, &trust, None, proxies.unwrap()).unwrap();
        let send = async |url: &str| {
            let request = reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
            guarded.execute(request).await
        };
        let denied = send(&format!("https://localhost:{port}/")).await;
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(connections.load(Ordering::Relaxed), 0);
        let answer = send("http://r.example/").await.unwrap();
        assert_eq!(answer.status(), 418, "the proxy answers");
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }
}
