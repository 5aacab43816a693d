//! Modules on web servers. The digest in the reference covers the bytes as served, without content coding.

use std::fmt;

use async_trait::async_trait;

use crate::reference::HttpReference;
use crate::source::{Body, Context, Part, Resolved, Source, Unpack};
use crate::transport::Request;
use crate::{Defaults, Error, ErrorKind, Reference};

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
        let digest = http.digest();
        Ok(Resolved {
            reference: reference.clone(),
            origin: reference.clone(),
            expected: http.module_digest().cloned(),
            artifact: digest.clone(),
            // Where the module has a digest of its own, only unpacking shows whether it holds.
            module: http.module_digest().is_none().then(|| digest.clone()),
            parts: vec![Part { digest: digest.clone(), size: None, media_type: None }],
            unpack: Unpack::File,
            defaults: Defaults::default(),
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
