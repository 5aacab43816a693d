//! The HTTP client: guard, redirects and retries.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backon::Retryable;
use reqwest::Certificate;

use crate::authority::display_url;
use crate::redirect::{self, MAX_REDIRECTS};
use crate::retry::{self, Failure};
use crate::{Error, ErrorKind, Guarded, Hosts, Request, Response};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time between two chunks of a response.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time of a request with a large body.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(30);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The guarded HTTP client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    guarded: Guarded,
    /// For requests with a large body: the read timeout of the HTTP library also runs while a body
    /// is sent.
    uploads: Guarded,
}

#[derive(Clone, Copy)]
enum Timeout {
    Read,
    Upload,
}

impl Http {
    /// A client that trusts the machine's certificate authorities and those in `authorities` (PEM).
    ///
    /// # Errors
    ///
    /// A text in `authorities` is not a certificate in PEM.
    pub fn new(hosts: &Hosts, authorities: &[String]) -> Result<Self, Error> {
        // Fails if another part of the program installed a provider; that provider is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut certificates = Vec::new();
        for pem in authorities {
            certificates.extend(certificates_in(pem)?);
        }
        Ok(Self {
            guarded: guarded(hosts, &certificates, Timeout::Read)?,
            uploads: guarded(hosts, &certificates, Timeout::Upload)?,
        })
    }

    /// Whether the operator allows plain HTTP to `authority` (`host` or `host:port`).
    pub fn is_insecure(&self, authority: &str) -> bool {
        self.guarded.hosts().contains(authority)
    }

    /// The scheme for `authority`: `http` if the operator lists it, else `https`.
    pub fn scheme(&self, authority: &str) -> &'static str {
        if self.is_insecure(authority) {
            "http"
        } else {
            "https"
        }
    }

    /// Sends the request, follows redirects, and retries failures that may pass.
    ///
    /// # Errors
    ///
    /// There is no response. A response with an error status is not an error here.
    pub async fn send(&self, request: &Request) -> Result<Response, Error> {
        let attempts = AtomicU32::new(0);
        let attempt = || async {
            attempts.fetch_add(1, Ordering::Relaxed);
            Failure::check(self.follow(request).await)
        };
        let result = attempt
            .retry(retry::backoff())
            .when(Failure::is_retryable)
            .adjust(Failure::delay)
            .notify(|_, delay| {
                let url = display_url(&request.url);
                let delay_milliseconds = delay.as_millis();
                tracing::debug!(%url, delay_milliseconds, "retrying a request");
            })
            .await;
        result.or_else(|failure| failure.after(attempts.load(Ordering::Relaxed)))
    }

    /// Sends the request once, and follows redirects.
    async fn follow(&self, request: &Request) -> Result<Response, Error> {
        let client = if request.is_upload() {
            &self.uploads
        } else {
            &self.guarded
        };
        let mut url = request.url.clone();
        // Stays false after the chain left the origin, even if it returns there.
        let mut same_origin = true;
        for _ in 0..=MAX_REDIRECTS {
            let response = client
                .execute(request.build(url.clone(), same_origin))
                .await?;
            let Some(next) = redirect::target(request, &response)? else {
                return Ok(Response::new(url, response));
            };
            same_origin &= next.origin() == url.origin();
            url = next;
        }
        Err(redirect::too_many(request))
    }
}

fn certificates_in(pem: &str) -> Result<Vec<Certificate>, Error> {
    Certificate::from_pem_bundle(pem.as_bytes())
        .ok()
        .filter(|bundle| !bundle.is_empty())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                "a certificate authority under `sources.ca` is not a certificate in PEM",
            )
        })
}

fn guarded(
    hosts: &Hosts,
    certificates: &[Certificate],
    timeout: Timeout,
) -> Result<Guarded, Error> {
    let builder = || {
        let builder = reqwest::Client::builder()
            .user_agent(concat!(
                "wasm-workflow-executor/",
                env!("CARGO_PKG_VERSION")
            ))
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT);
        match timeout {
            Timeout::Read => builder.read_timeout(READ_TIMEOUT),
            Timeout::Upload => builder.timeout(UPLOAD_TIMEOUT),
        }
    };
    let certificates = || certificates.iter().cloned();
    let merged = builder().tls_certs_merge(certificates());
    Guarded::new(hosts.clone(), merged).or_else(|error| {
        // An image without certificate authorities can still use plain HTTP registries.
        tracing::warn!(%error, "this machine has no certificate authorities: HTTPS will fail");
        let only = builder().tls_certs_only(certificates());
        Guarded::new(hosts.clone(), only)
    })
}
