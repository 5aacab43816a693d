//! Modules on web servers. The digest in the reference covers the bytes as served, without content coding.

use std::fmt;

use async_trait::async_trait;

use crate::reference::HttpReference;
use crate::source::{Body, Context, Part, Resolved, Source};
use crate::transport::Request;
use crate::{Error, ErrorKind, Reference};

/// The `http` source.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpSource;

impl fmt::Display for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("http")
    }
}

#[async_trait]
impl Source for HttpSource {
    /// Needs no request: the reference says the digest.
    async fn resolve(&self, reference: &Reference, _context: &Context<'_>) -> Result<Resolved, Error> {
        let http = expect(reference)?;
        let part = Part { digest: http.digest().clone(), size: None, media_type: None };
        let resolved = Resolved::file(reference, http.digest().clone(), part);
        Ok(match http.module_digest() {
            // Only unpacking shows whether it holds.
            Some(expected) => Resolved { module: None, expected: Some(expected.clone()), ..resolved },
            None => resolved,
        })
    }

    async fn open_unverified(&self, resolved: &Resolved, _part: &Part, context: &Context<'_>) -> Result<Body, Error> {
        let http = expect(&resolved.origin)?;
        let answer = context.http.send(&Request::get(http.url().clone())).await?;
        if !answer.status.is_success() {
            let error = answer.error(&format!("file `{}`", http.url().path()));
            return Err(match error.kind() {
                ErrorKind::Unauthorized => {
                    error.hint("it may need credentials, which this version has for OCI registries alone")
                }
                _ => error,
            });
        }
        Ok(answer.body())
    }
}

fn expect(reference: &Reference) -> Result<&HttpReference, Error> {
    match reference {
        Reference::Http(http) => Ok(http),
        other => Err(Error::new(ErrorKind::InvalidReference, format!("`{other}` is not a URL"))),
    }
}
