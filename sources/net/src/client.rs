//! The HTTP client: guard, redirects and retries.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backon::Retryable;

use crate::authority::display_url;
use crate::redirect::{
    self, MAX_REDIRECTS, keeps_credentials, redirect_target, too_many_redirects,
};
use crate::retry::{self, Failure};
use crate::{Error, Guarded, Hosts, Request, Response, Trust};

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
    /// A client that trusts the machine's certificate authorities and the certificates in
    /// `authorities` (PEM).
    ///
    /// # Errors
    ///
    /// A text in `authorities` is not a certificate in PEM.
    pub fn new(hosts: &Hosts, authorities: &[String]) -> Result<Self, Error> {
        let trust = Trust::machine_and(authorities, "`sources.ca`")?;
        Ok(Self {
            guarded: guarded(hosts, &trust, Timeout::Read)?,
            uploads: guarded(hosts, &trust, Timeout::Upload)?,
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
            let status = response.status();
            let target = redirect_target(&request.method, &url, status, response.headers())?;
            let Some(next) = target else {
                return Ok(Response::new(url, response));
            };
            if request.refuse_redirects {
                return Err(redirect::unexpected(&url));
            }
            same_origin &= keeps_credentials(&url, &next);
            url = next;
        }
        Err(too_many_redirects(&request.url))
    }
}

/// The common settings of clients: the user agent, a connect timeout, and no `Referer`. Redirects
/// are not followed.
pub fn client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!(
            "wasm-workflow-executor/",
            env!("CARGO_PKG_VERSION")
        ))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
}

fn guarded(hosts: &Hosts, trust: &Trust, timeout: Timeout) -> Result<Guarded, Error> {
    let builder = || {
        let builder = client_builder().pool_idle_timeout(POOL_IDLE_TIMEOUT);
        match timeout {
            Timeout::Read => builder.read_timeout(READ_TIMEOUT),
            Timeout::Upload => builder.timeout(UPLOAD_TIMEOUT),
        }
    };
    Guarded::new(hosts.clone(), builder, trust, None)
}
