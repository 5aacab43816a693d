//! The guarded HTTP client: every request to a registry, web server or artifact store goes through
//! it.
//!
//! Workflow authors choose the hosts that this program talks to, and those hosts choose redirects
//! and response bodies. The client therefore treats both as hostile:
//!
//! - **Addresses** are checked after name resolution (an SSRF guard). A public name that resolves
//!   to a loopback address or to a cloud's metadata service is refused ([`Hosts`],
//!   [`forbidden_address`]).
//! - **Redirects** are followed by rules of this crate ([`redirect_target`]). A redirect to another
//!   server gets no credentials and headers. HTTPS never becomes plain HTTP, and an upload never
//!   becomes a `GET`.
//! - **Certificates** of servers are verified by one verifier ([`Trust`]).
//! - **Retries** use exponential backoff with jitter and obey `Retry-After`. Only failures that may
//!   pass are retried.
//! - **Slow servers** cannot hold a slot for ever: a body must deliver 4 KiB in 30 s ([`MinRate`]).
//! - **Content codings** that the request did not ask for are decoded in bounded pieces.
//! - **Errors and logs** show URLs without query, user and password ([`display_url`]).
//!
//! | item | use |
//! |---|---|
//! | [`Http`] | requests that may be sent again: redirects, retries and error texts |
//! | [`Guarded`] | one request, sent once, without redirects: for a caller that retries itself |
//! | [`Hosts`] | the hosts that the operator lists |
//! | [`Authority`] | `host` or `host:port`, with one form for each host |
//! | [`Challenge`] | the ways to authenticate that a server offers |
//! | [`next_page`] | the URL of the next page of a list |
//! | [`Proxies`] | the proxies in the environment, which every client uses |
//! | [`Caching`] | the response headers that control a cache |
//! | [`decoded`] | a body without its content codings, for a caller with its own client |
//! | [`Trust`] | the certificates that a client trusts |
//! | [`SingleFlight`] | one piece of work for many callers that ask for the same thing |
//! | [`with_min_rate`] | a response whose body must not arrive too slowly |
//!
//! ```
//! use wasm_workflow_net::{ErrorKind, Hosts, Http, Request};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // No host is listed: plain HTTP and this machine are out of reach.
//! let http = Http::new(&Hosts::default(), &[])?;
//! let request = Request::get("https://127.0.0.1/module.wasm".parse()?);
//! let error = http.send(&request).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Denied);
//! assert!(!error.retryable());
//! # Ok(())
//! # }
//! ```

mod addresses;
mod authority;
mod blocks;
mod body;
mod caching;
mod challenge;
mod client;
mod coding;
mod decoder;
mod error;
mod extended_key_usage;
mod field;
mod guarded;
mod hosts;
mod link;
mod login;
mod min_rate;
mod min_rate_body;
mod no_response;
mod padding;
mod pattern;
mod proxies;
mod redirect;
mod request;
mod request_headers;
mod resolver;
mod response;
mod retry;
mod single_flight;
mod special_purpose;
#[cfg(test)]
mod special_purpose_tests;
mod trust;
mod verifier;
mod zstd;

pub use addresses::forbidden_address;
pub use authority::{
    Authority, AuthorityError, authority, display_url, is_host, origin, split_port,
};
pub use body::Body;
pub use caching::Caching;
pub use challenge::Challenge;
pub use client::{Http, client_builder};
pub use coding::{decoded, is_coded};
pub use error::{Error, ErrorKind};
pub use guarded::Guarded;
pub use hosts::Hosts;
pub use link::next_page;
pub use login::{basic, take_login};
pub use min_rate::{MinRate, TooSlow};
pub use min_rate_body::with_min_rate;
pub use pattern::{matches, matches_any};
pub use proxies::{Proxies, shown as shown_proxy};
pub use redirect::{MAX_REDIRECTS, keeps_credentials, redirect_target, too_many_redirects};
pub use request::{Content, Request, sensitive};
pub use request_headers::is_set_by_client;
pub use response::Response;
pub use single_flight::SingleFlight;
pub use trust::{Identity, Trust, certificates_in_pem};
