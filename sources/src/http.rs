//! Modules on web servers. The digest in the reference covers the bytes as served, without content coding.
//!
//! What has no digest is asked for with what the server said to tell versions apart by (RFC 9110, 13.1), so that it is sent again only
//! when it changed; and not at all while the server promised that it does not. What must not be stored is not: digests in references outweigh that.

use async_trait::async_trait;
use net::{Body, Caching, Request, Response};

use crate::credentials::preemptive;
use crate::reference::HttpReference;
use crate::source::{Context, Resolution, Source, Streamed};
use crate::{Error, Part, Resolved, Unpack};

/// The `http` source.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpSource;

#[async_trait]
impl Source for HttpSource {
    type Reference = HttpReference;

    /// Needs no request where the reference says the digest.
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
            // Only unpacking shows whether it holds.
            Some(_) => Resolved {
                module: None,
                expected,
                ..resolved
            },
            None => resolved,
        }
        .into())
    }

    /// A URL without a digest is downloaded at once: its digest is not known before.
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

/// Asks for it unless it is what is stored.
async fn revalidate(
    http: &HttpReference,
    stored: Option<&Resolved>,
    context: &Context<'_>,
) -> Result<Resolution, Error> {
    let known = stored.filter(|stored| stored.caching.has_validators());
    let answer = ask(http, known.map(|known| known.caching.clone()), context).await?;
    // What is said where a redirect led is of that, and nothing was said of the redirect.
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
