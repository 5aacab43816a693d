//! Modules in OCI registries.
//!
//! A pull takes three requests of the distribution specification
//! (<https://github.com/opencontainers/distribution-spec>):
//!
//! 1. `HEAD` of the tag, for the digest of the manifest;
//! 2. `GET` of the manifest by its digest;
//! 3. `GET` of the layer by its digest.
//!
//! The requests are sent by the guarded HTTP client and not by a library for OCI registries: such
//! libraries follow every redirect and token realm that a registry names, and read bodies without a
//! limit.

mod auth;
mod cosign;
mod image;
mod index;
mod manifest;
mod pages;
pub mod push;
mod repository;
mod requests;
mod select;
mod spin;
mod tags;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use net::Body;
use reqwest::Method;

use crate::reference::{OciReference, Select};
use crate::signer::RequiredSignature;
use crate::source::{Context, Resolution, Source};
use crate::{Digest, Error, ErrorKind, Part, Resolved, Unpack};
use auth::Headers;
use image::ImageConfig;
use manifest::{Descriptor, Document, Manifest};
use repository::Repository;
use select::Choice;

/// The maximum size of a manifest, which registries have too, and of a configuration or signature.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The hint for a refused pull without credentials.
const PULL_HINT: &str = "the artifact may not exist, or the registry may require credentials: name a Secret under `pull.secrets`, or on your own machine, log in with `docker login`, `podman login` or `skopeo login`";
/// The hint for a refused push without credentials.
const PUSH_HINT: &str = "log in with `docker login`, `podman login` or `skopeo login`, as a user that may push to this repository";

/// The `oci` source.
#[derive(Debug)]
pub struct OciSource {
    headers: Headers,
    /// The mirrors of each registry, `host[:port][/path]`.
    mirrors: BTreeMap<String, Vec<String>>,
    /// The hint for a refused request without credentials.
    hint: &'static str,
}

impl OciSource {
    /// Creates a source that pulls. For each registry, it tries the `mirrors` first. A mirror is
    /// `host[:port][/path]`.
    pub fn new(mirrors: BTreeMap<String, Vec<String>>) -> Self {
        Self {
            headers: Headers::for_actions("pull"),
            mirrors,
            hint: PULL_HINT,
        }
    }

    /// Creates a source that pushes and pulls. Its tokens have both scopes.
    pub(crate) fn publisher() -> Self {
        Self {
            headers: Headers::for_actions("pull,push"),
            mirrors: BTreeMap::new(),
            hint: PUSH_HINT,
        }
    }
}

#[async_trait]
impl Source for OciSource {
    type Reference = OciReference;

    async fn resolve(
        &self,
        oci: &OciReference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error> {
        let artifact = match oci.digest() {
            Some(digest) => digest.clone(),
            None => self.digest_of_tag(oci, context).await?,
        };
        // The tag still has the same digest, and the content of a digest never changes.
        if let Some(known) =
            stored.filter(|known| known.artifact == artifact && known.origin.as_kind() == Some(oci))
        {
            return Ok(known.clone().into());
        }
        let manifest = self.manifest(oci, &artifact, context).await?;
        match select::layer(&manifest, oci.select())? {
            Choice::Layer(layer) => Ok(Resolved::file(oci.clone(), artifact, layer.part()).into()),
            Choice::Image => Ok(self
                .resolve_image(oci, artifact, &manifest, context)
                .await?
                .into()),
            Choice::Spin(application) => {
                let bytes = self
                    .small_blob(oci, &application, "description of the application", context)
                    .await?;
                let wanted = match oci.select() {
                    Some(Select::Layer(component)) => Some(component.as_str()),
                    _ => None,
                };
                let digest = spin::component(&bytes, wanted)?;
                let layer = manifest.layers.iter().find(|layer| layer.digest == digest);
                let layer = layer.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Protocol,
                        format!(
                            "the Spin application has no layer with the digest `{digest}` of its component"
                        ),
                    )
                })?;
                Ok(Resolved::file(oci.clone(), artifact, layer.part()).into())
            }
        }
    }

    fn server(&self, oci: &OciReference) -> Option<String> {
        Some(oci.registry().to_owned())
    }

    fn has_mirrors(&self, oci: &OciReference) -> bool {
        self.mirrors.contains_key(oci.host())
    }

    fn supports_signatures(&self) -> bool {
        true
    }

    async fn verify_signature(
        &self,
        oci: &OciReference,
        artifact: &Digest,
        required: &RequiredSignature,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        self.check_signature(oci, artifact, required, context).await
    }

    async fn open_unverified(
        &self,
        oci: &OciReference,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error> {
        let what = format!("layer `{}` of `{}`", part.digest, oci.repository());
        let answer = self
            .request(oci, &format!("blobs/{}", part.digest), &what, context)
            .await?;
        Ok(answer.body())
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::{Document, ImageConfig, Select, select, spin};

    /// Parses the bytes as each document that a registry can send: a manifest, an index, an image
    /// configuration and the description of a Spin application.
    pub fn manifest(bytes: &[u8]) {
        match Document::parse(bytes) {
            Ok(Document::Manifest(manifest)) => {
                let _ = select::layer(&manifest, None);
                let _ = select::layer(&manifest, Some(&Select::Layer("0".to_owned())));
            }
            Ok(Document::Index(children)) => {
                let _ = select::child(&children);
            }
            Err(_) => {}
        }
        let _ = ImageConfig::parse(bytes).map(ImageConfig::into_program);
        let _ = spin::component(bytes, None);
    }
}

impl OciSource {
    async fn resolve_image(
        &self,
        oci: &OciReference,
        artifact: Digest,
        manifest: &Manifest,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        let config = match &manifest.config {
            // Other artifacts have a configuration of another type, often the empty descriptor.
            Some(config)
                if config.media_type.contains("image.v1+json")
                    || config.media_type.contains("image.config") =>
            {
                let bytes = self
                    .small_blob(oci, config, "image configuration", context)
                    .await?;
                ImageConfig::parse(&bytes)?
            }
            _ => ImageConfig::default(),
        };
        let program = config.into_program();
        let path = match oci.select() {
            Some(Select::Path(path)) => Some(path.clone()),
            _ => program.path,
        };
        let parts = manifest.layers.iter().map(Descriptor::part).collect();
        Ok(Resolved {
            defaults: program.defaults,
            ..Resolved::packed(oci.clone(), artifact, parts, Unpack::Image { path })
        })
    }

    /// Fetches a manifest or index by its digest, and verifies the digest.
    async fn document(
        &self,
        oci: &OciReference,
        digest: &Digest,
        context: &Context<'_>,
    ) -> Result<Document, Error> {
        let what = format!("manifest `{digest}` of `{}`", oci.repository());
        let answer = self
            .request(oci, &format!("manifests/{digest}"), &what, context)
            .await?;
        let content_type = answer.headers.get(reqwest::header::CONTENT_TYPE).cloned();
        let bytes = answer.bytes(MAX_MANIFEST_BYTES, &what).await?;
        verify(digest, &bytes, &what)?;
        Document::parse_as(
            &bytes,
            content_type.as_ref().and_then(|sent| sent.to_str().ok()),
        )
    }

    /// Fetches a small blob into memory and verifies its digest. `what` names the blob in errors.
    async fn small_blob(
        &self,
        oci: &OciReference,
        blob: &Descriptor,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Bytes, Error> {
        let what = format!("{what} `{}` of `{}`", blob.digest, oci.repository());
        let answer = self
            .request(oci, &format!("blobs/{}", blob.digest), &what, context)
            .await?;
        let bytes = answer.bytes(MAX_MANIFEST_BYTES, &what).await?;
        verify(&blob.digest, &bytes, &what)?;
        Ok(bytes)
    }

    /// The digest of the manifest that the tag names.
    async fn digest_of_tag(
        &self,
        oci: &OciReference,
        context: &Context<'_>,
    ) -> Result<Digest, Error> {
        let tag = oci.manifest();
        let tag = tag.as_str();
        self.first_of_servers(oci, context, |repository| async move {
            self.digest_on(&repository, tag, context).await
        })
        .await
    }

    /// The digest of the manifest that the tag names on one server.
    ///
    /// Sends `HEAD`, which registries do not count as a pull. Servers refuse `HEAD` in many ways,
    /// or send no usable `Docker-Content-Digest`. Then sends `GET`, and computes the digest.
    async fn digest_on(
        &self,
        repository: &Repository,
        tag: &str,
        context: &Context<'_>,
    ) -> Result<Digest, Error> {
        let path = format!("manifests/{tag}");
        let what = format!("tag `{tag}` of `{}`", repository.name);
        let head = self
            .request_to(repository, &path, Method::HEAD, &what, context)
            .await;
        match head {
            Ok(answer) => {
                let header = answer.headers.get("docker-content-digest");
                let digest = header.and_then(|header| header.to_str().ok()?.parse().ok());
                if let Some(digest) = digest {
                    return Ok(digest);
                }
            }
            Err(error) if fails_for_every_method(&error) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the registry refuses HEAD; GET is tried");
            }
        }
        let answer = self
            .request_to(repository, &path, Method::GET, &what, context)
            .await?;
        Ok(Digest::of(&answer.bytes(MAX_MANIFEST_BYTES, &what).await?))
    }
}

/// Whether a request with another method would fail in the same way as a refused `HEAD`: the
/// request was not sent, the server cannot be reached, or the server limits requests.
fn fails_for_every_method(error: &Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<reqwest::Error>());
    let is_unreachable = cause.is_some_and(reqwest::Error::is_connect)
        || (error.kind() == ErrorKind::Unavailable && !error.retryable());
    let was_not_sent = matches!(
        error.kind(),
        ErrorKind::InvalidConfig | ErrorKind::InvalidReference | ErrorKind::Denied
    );
    is_unreachable || was_not_sent || error.kind() == ErrorKind::RateLimited
}

fn verify(digest: &Digest, bytes: &[u8], what: &str) -> Result<(), Error> {
    let actual = digest.of_same_kind(bytes);
    if actual == *digest {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::DigestMismatch,
        format!("the content of {what} has another digest: `{actual}`"),
    )
    .with_hint(
        "the registry, a mirror or a proxy changed the content: do not use it until you know why",
    ))
}
