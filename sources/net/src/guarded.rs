//! The HTTP library with the address guard in front of it.

use crate::no_response::{no_login, no_response};
use crate::resolver::{Resolver, allowed_addresses};
use crate::{Error, ErrorKind, Hosts, Identity, Proxies, Trust};

const PROXY_AUTHENTICATION_REQUIRED: reqwest::StatusCode =
    reqwest::StatusCode::PROXY_AUTHENTICATION_REQUIRED;

/// A client that sends each request once, to allowed addresses only. It does not follow redirects.
#[derive(Clone, Debug)]
pub struct Guarded {
    client: reqwest::Client,
    hosts: Hosts,
    proxies: Proxies,
    /// The name of the configuration that lists trusted certificates.
    trusted_by: &'static str,
}

impl Guarded {
    /// The client of `builder`, with the guard in front of it. Redirects, retries, proxies and TLS
    /// of the builder are replaced. The proxies are those of the environment.
    ///
    /// # Errors
    ///
    /// - A proxy in the environment is malformed.
    /// - The client certificate and its key do not fit together.
    /// - The HTTP library cannot be set up.
    pub fn new(
        hosts: Hosts,
        builder: reqwest::ClientBuilder,
        trust: &Trust,
        identity: Option<Identity>,
    ) -> Result<Self, Error> {
        let proxies = Proxies::from_env()?;
        let chosen = proxies.clone();
        let builder = trust
            .configure(builder, identity)?
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .proxy(reqwest::Proxy::custom(move |url| {
                chosen.proxy(url).cloned()
            }))
            .dns_resolver(Resolver::new(hosts.clone(), proxies.clone()));
        let client = builder.build().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the HTTP client cannot be set up")
                .caused_by(error)
                .permanent()
        })?;
        Ok(Self {
            client,
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
        if let Some(host) = url.host_str()
            && proxy.is_none()
            && self.proxies.is_proxy(host)
        {
            // The client's resolver allows each address of a proxy. As the host of a URL, the name
            // has no such exception.
            let allowed = allowed_addresses(&self.hosts, host).await;
            if let Some(denied) = allowed
                .err()
                .and_then(|error| error.downcast::<Error>().ok())
            {
                return Err(*denied);
            }
        }
        let response = self.client.execute(request).await;
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
