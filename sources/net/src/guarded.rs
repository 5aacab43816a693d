//! The HTTP library with the address guard in front of it.

use url::Url;

use crate::authority::origin;
use crate::resolver::Resolver;
use crate::{Error, ErrorKind, Hosts};

/// A client that sends each request once, to allowed addresses only. It does not follow redirects.
#[derive(Clone, Debug)]
pub struct Guarded {
    client: reqwest::Client,
    hosts: Hosts,
}

impl Guarded {
    /// The client of `builder`, with the guard in front of it. Redirects and retries of the builder
    /// are replaced.
    pub fn new(hosts: Hosts, builder: reqwest::ClientBuilder) -> Result<Self, Error> {
        let builder = builder
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .dns_resolver(Resolver::new(hosts.clone()));
        let client = builder.build().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the HTTP client cannot be set up")
                .caused_by(error)
                .permanent()
        })?;
        Ok(Self { client, hosts })
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
        response.map_err(|error| no_response(&url, error))
    }
}

/// The error for a request without a response. An error of the address guard is returned as it is.
fn no_response(url: &Url, error: reqwest::Error) -> Error {
    let origin = origin(url);
    if let Some(denied) = causes(&error).find_map(|cause| cause.downcast_ref::<Error>()) {
        return denied.clone();
    }
    let cause = causes(&error)
        .last()
        .map_or_else(String::new, ToString::to_string);
    let message = if error.is_timeout() {
        format!("{origin} does not answer in time")
    } else if cause.contains("InvalidContentType") {
        let message = format!("{origin} does not use TLS; the server may use plain HTTP");
        return Error::new(ErrorKind::Unavailable, message)
            .with_hint(
                "if the server uses plain HTTP, begin its URLs with `http://`, and ask the operator \
                 to list the server under `sources.insecure`",
            )
            .permanent();
    } else if cause.contains("invalid peer certificate") {
        let message = format!("the certificate of {origin} is not trusted ({cause})");
        return Error::new(ErrorKind::Unavailable, message)
            .with_hint(
                "if a private authority issued the certificate, ask the operator to add the \
                 authority under `sources.ca`; a self-signed certificate does not work",
            )
            .permanent();
    } else {
        format!("{origin} cannot be reached ({cause})")
    };
    Error::new(ErrorKind::Unavailable, message)
        .with_hint("check the name and that the server is up and reachable from here")
        .caused_by(error.without_url())
}

/// The error and its causes, the innermost last.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
}
