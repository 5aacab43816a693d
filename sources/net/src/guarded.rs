//! The HTTP library with the address guard in front of it.

use crate::no_response::no_response;
use crate::resolver::Resolver;
use crate::{Error, ErrorKind, Hosts, Identity, Trust};

/// A client that sends each request once, to allowed addresses only. It does not follow redirects.
#[derive(Clone, Debug)]
pub struct Guarded {
    client: reqwest::Client,
    hosts: Hosts,
    /// The name of the configuration that lists trusted certificates.
    trusted_by: &'static str,
}

impl Guarded {
    /// The client of `builder`, with the guard in front of it. Redirects, retries and TLS of the
    /// builder are replaced.
    ///
    /// # Errors
    ///
    /// The client certificate and its key do not fit together, or the HTTP library cannot be set
    /// up.
    pub fn new(
        hosts: Hosts,
        builder: reqwest::ClientBuilder,
        trust: &Trust,
        identity: Option<Identity>,
    ) -> Result<Self, Error> {
        let builder = trust
            .configure(builder, identity)?
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .dns_resolver(Resolver::new(hosts.clone()));
        let client = builder.build().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the HTTP client cannot be set up")
                .caused_by(error)
                .permanent()
        })?;
        Ok(Self {
            client,
            hosts,
            trusted_by: trust.place(),
        })
    }

    /// The hosts that the operator lists.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Sends one request.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        self.hosts.check(request.url())?;
        let url = request.url().clone();
        let response = self.client.execute(request).await;
        response.map_err(|error| no_response(&url, self.trusted_by, error))
    }
}
