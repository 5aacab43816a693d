//! Modules on web servers. The digest in a reference is the digest of the file without content
//! coding.
//!
//! A reference with a digest needs no request to be resolved. A reference without a digest is
//! downloaded when it is resolved. The store then works as an HTTP cache (RFC 9111):
//!
//! - While the stored response is fresh by `Cache-Control: max-age`, the server is not asked.
//! - Later, the cache is validated with a conditional request, with `ETag` and `Last-Modified`
//!   (RFC 9110, 13.1). The server answers 304 if the file has not changed.
//! - A response with `Cache-Control: no-store` is not stored.
//!
//! These rules do not apply to a reference with a digest: its content cannot change.

use async_trait::async_trait;
use net::{Body, Caching, Request, Response, authority};

use crate::credentials::preemptive;
use crate::reference::HttpReference;
use crate::source::{Context, Resolution, Source, Streamed};
use crate::{Error, Part, Resolved, Unpack};

/// The source of `https://` and `http://` references.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpSource;

#[async_trait]
impl Source for HttpSource {
    type Reference = HttpReference;

    fn server(&self, reference: &HttpReference) -> Option<String> {
        Some(authority(reference.url()))
    }

    /// Needs no request if the reference has a digest.
    async fn resolve(
        &self,
        reference: &HttpReference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error> {
        let expected = reference.module_digest().cloned();
        let Some(digest) = reference.digest() else {
            return revalidate(reference, stored, context).await;
        };
        let part = Part {
            digest: digest.clone(),
            size: None,
            media_type: None,
        };
        let resolved = Resolved::file(reference.clone(), digest.clone(), part);
        Ok(match expected {
            // The digest of the module is known only after unpacking.
            Some(_) => Resolved {
                module: None,
                expected,
                ..resolved
            },
            None => resolved,
        }
        .into())
    }

    /// A URL without a digest is downloaded when it is resolved.
    fn may_stream_on_resolve(&self, reference: &HttpReference) -> bool {
        reference.digest().is_none()
    }

    async fn open_unverified(
        &self,
        origin: &HttpReference,
        _part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error> {
        ask(origin, None, context)
            .await?
            .decoded_body()
            .map_err(Error::from)
    }
}

/// Sends a conditional request. Returns the stored result if the server answers 304, else the new
/// content.
async fn revalidate(
    http: &HttpReference,
    stored: Option<&Resolved>,
    context: &Context<'_>,
) -> Result<Resolution, Error> {
    let known = stored.filter(|stored| stored.caching.has_validators());
    let answer = ask(http, known.map(|known| known.caching.clone()), context).await?;
    // After a redirect, `max-age` is about the target only. The redirect itself may change at any
    // time, so the response is not fresh.
    let redirected = answer.url != *http.url();
    let caching = answer.caching();
    let caching = Caching {
        fresh_until: caching.fresh_until.filter(|_| !redirected),
        ..caching
    };
    if let Some(known) = known.filter(|_| answer.status.as_u16() == 304) {
        return Ok(Resolved {
            caching: caching.updating(&known.caching),
            ..known.clone()
        }
        .into());
    }
    Ok(Resolution::Streamed(Box::new(Streamed {
        body: answer.decoded_body()?,
        unpack: Unpack::File,
        caching,
        expected: http.module_digest().cloned(),
        origin: None,
    })))
}

/// Sends a request with the credentials of the requester. With `unless`, the request is
/// conditional.
async fn ask(
    http: &HttpReference,
    unless: Option<Caching>,
    context: &Context<'_>,
) -> Result<Response, Error> {
    let what = format!("file `{}`", http.url().path());
    let conditional = unless.is_some();
    let request = Request {
        headers: http.headers(),
        unless,
        ..Request::get(http.url().clone())
    };
    let answer = preemptive::send(&request, &what, context.http, context.keyrings).await?;
    match answer.status.as_u16() {
        200 => Ok(answer),
        304 if conditional => Ok(answer),
        _ => Err(answer.error(&what).into()),
    }
}
