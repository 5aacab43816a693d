//! Modules in OCI registries.
//!
//! Three requests, of the distribution specification (<https://github.com/opencontainers/distribution-spec>): what the tag
//! points to, the manifest by its digest, the layer by its digest. They are our own, over the guarded client, because the
//! libraries for it follow a registry's redirections and token realms anywhere and read bodies without a bound.

mod manifest;
mod token;

use std::fmt;

use async_trait::async_trait;
use reqwest::Method;
use url::Url;

use crate::reference::OciReference;
use crate::source::{Body, Context, Part, Resolved, Source, Unpack};
use crate::transport::{Answer, Request};
use crate::{Digest, Error, ErrorKind, Reference};
use manifest::{MANIFEST_TYPES, Manifest};
use token::Tokens;

/// The registries' own limit on manifests.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The `oci` source.
#[derive(Debug, Default)]
pub struct OciSource {
    tokens: Tokens,
}

impl fmt::Display for OciSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("oci")
    }
}

#[async_trait]
impl Source for OciSource {
    async fn resolve(&self, reference: &Reference, context: &Context<'_>) -> Result<Resolved, Error> {
        let oci = expect(reference)?;
        let digest = match oci.digest() {
            Some(digest) => digest.clone(),
            None => self.digest_of_tag(oci, context).await?,
        };
        let what = format!("manifest `{digest}` of `{}`", oci.repository());
        let answer = self.request(oci, &format!("manifests/{digest}"), Method::GET, &what, context).await?;
        let bytes = answer.bytes(MAX_MANIFEST_BYTES, &what).await?;
        verify(&digest, &bytes, &what)?;
        let layer = Manifest::parse(&bytes)?.module_layer()?;
        Ok(Resolved {
            reference: reference.clone(),
            artifact: digest,
            module: Some(layer.digest.clone()),
            parts: vec![layer],
            unpack: Unpack::Raw,
        })
    }

    async fn open_unverified(&self, resolved: &Resolved, part: &Part, context: &Context<'_>) -> Result<Body, Error> {
        let oci = expect(&resolved.reference)?;
        let what = format!("layer `{}` of `{}`", part.digest, oci.repository());
        let answer = self.request(oci, &format!("blobs/{}", part.digest), Method::GET, &what, context).await?;
        Ok(answer.body())
    }
}

impl OciSource {
    /// Asks by `HEAD`, which registries do not count as a pull; the few that leave the digest out are asked by `GET`.
    async fn digest_of_tag(&self, oci: &OciReference, context: &Context<'_>) -> Result<Digest, Error> {
        let path = format!("manifests/{}", oci.manifest());
        let what = format!("tag `{}` of `{}`", oci.manifest(), oci.repository());
        let answer = self.request(oci, &path, Method::HEAD, &what, context).await?;
        if let Some(header) = answer.headers.get("docker-content-digest") {
            let digest = header.to_str().ok().and_then(|text| text.parse().ok());
            return digest.ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    format!("registry `{}` sends a malformed digest for {what}", oci.registry()),
                )
            });
        }
        let answer = self.request(oci, &path, Method::GET, &what, context).await?;
        Ok(Digest::of(&answer.bytes(MAX_MANIFEST_BYTES, &what).await?))
    }

    /// Sends a request for something of the repository; on 401, once more with the token that the registry asks for.
    async fn request(
        &self,
        oci: &OciReference,
        path: &str,
        method: Method,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Answer, Error> {
        let registry = oci.registry();
        let scheme = if context.http.is_insecure(registry) { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{registry}/v2/{}/{path}", oci.repository())).map_err(|error| {
            Error::new(ErrorKind::InvalidReference, format!("`{registry}` is not a registry's host")).caused_by(error)
        })?;
        let mut request = Request {
            method,
            url,
            accept: if path.starts_with("manifests/") { MANIFEST_TYPES.to_vec() } else { Vec::new() },
            bearer: self.tokens.known(registry, oci.repository()),
        };
        let mut answer = context.http.send(&request).await?;
        if answer.status.as_u16() == 401
            && let Some(token) = self.tokens.fetch(oci, &answer, context).await?
        {
            request.bearer = Some(token);
            answer = context.http.send(&request).await?;
        }
        if answer.status.is_success() { Ok(answer) } else { Err(answer.error(what)) }
    }
}

fn expect(reference: &Reference) -> Result<&OciReference, Error> {
    match reference {
        Reference::Oci(oci) => Ok(oci),
        other => {
            Err(Error::new(ErrorKind::InvalidReference, format!("`{}` is not an OCI reference", other.redacted())))
        }
    }
}

fn verify(digest: &Digest, bytes: &[u8], what: &str) -> Result<(), Error> {
    let mut hasher = digest.hasher();
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == *digest {
        return Ok(());
    }
    Err(Error::new(ErrorKind::DigestMismatch, format!("the registry's {what} has the digest `{actual}`"))
        .hint("the registry, or something before it, changed it: do not use it until you know why"))
}
