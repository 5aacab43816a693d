//! Modules in OCI registries.
//!
//! Three requests, of the distribution specification (<https://github.com/opencontainers/distribution-spec>): what the tag
//! points to, the manifest by its digest, the layer by its digest. They are our own, over the guarded client, because the
//! libraries for it follow a registry's redirections and token realms anywhere and read bodies without a bound.

mod auth;
mod cosign;
mod image;
mod manifest;
pub mod push;
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
use select::Choice;

/// The registries' own limit on manifests, and ours on descriptions beside them.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
const MAYBE_PRIVATE: &str = "it may not exist, or need credentials: name a Secret under `pull.secrets`, or log in with `docker login` on your own machine";
const MAY_NOT_WRITE: &str = "log in with `docker login`, as somebody who may write there";

/// The `oci` source.
#[derive(Debug)]
pub struct OciSource {
    headers: Headers,
    mirrors: BTreeMap<String, Vec<String>>,
    /// What to do where nobody is known.
    remedy: &'static str,
}

impl OciSource {
    /// A source that looks for a registry's content in its `mirrors` first.
    pub fn new(mirrors: BTreeMap<String, Vec<String>>) -> Self {
        Self {
            headers: Headers::for_actions("pull"),
            mirrors,
            remedy: MAYBE_PRIVATE,
        }
    }

    /// One that publishes: its tokens are for that too.
    pub(crate) fn publisher() -> Self {
        Self {
            headers: Headers::for_actions("pull,push"),
            mirrors: BTreeMap::new(),
            remedy: MAY_NOT_WRITE,
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
        // The tag points to what it pointed to before: a manifest says for ever what it says.
        if let Some(known) =
            stored.filter(|known| known.artifact == artifact && known.origin.as_kind() == Some(oci))
        {
            return Ok(known.clone().into());
        }
        let manifest = match self.document(oci, &artifact, context).await? {
            Document::Manifest(manifest) => manifest,
            Document::Index(children) => {
                let child = select::child(&children)?;
                match self.document(oci, &child.digest, context).await? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => {
                        return Err(Error::new(
                            ErrorKind::Unsupported,
                            "the index names another index, which is not supported",
                        ));
                    }
                }
            }
        };
        match select::layer(&manifest, oci.select())? {
            Choice::Layer(layer) => Ok(Resolved::file(oci.clone(), artifact, layer.part()).into()),
            Choice::Image => Ok(self
                .resolve_image(oci, artifact, &manifest, context)
                .await?
                .into()),
            Choice::Spin(application) => {
                let bytes = self
                    .small_blob(oci, &application, "the application's description", context)
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
                        format!("the application has no layer `{digest}` for its component"),
                    )
                })?;
                Ok(Resolved::file(oci.clone(), artifact, layer.part()).into())
            }
        }
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
            .request(
                oci,
                &format!("blobs/{}", part.digest),
                Method::GET,
                &what,
                context,
            )
            .await?;
        Ok(answer.body())
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::{Document, ImageConfig, Select, select, spin};

    /// Reads it as everything that such bytes can be.
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
            // Artifacts without a configuration of their own name an empty one.
            Some(config)
                if config.media_type.contains("image.v1+json")
                    || config.media_type.contains("image.config") =>
            {
                let bytes = self
                    .small_blob(oci, config, "the image's configuration", context)
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

    /// A manifest or index, whole and with the digest that it was asked for by.
    async fn document(
        &self,
        oci: &OciReference,
        digest: &Digest,
        context: &Context<'_>,
    ) -> Result<Document, Error> {
        let what = format!("manifest `{digest}` of `{}`", oci.repository());
        let answer = self
            .request(
                oci,
                &format!("manifests/{digest}"),
                Method::GET,
                &what,
                context,
            )
            .await?;
        let content_type = answer.headers.get(reqwest::header::CONTENT_TYPE).cloned();
        let bytes = answer.bytes(MAX_MANIFEST_BYTES, &what).await?;
        verify(digest, &bytes, &what)?;
        Document::parse_as(
            &bytes,
            content_type.as_ref().and_then(|sent| sent.to_str().ok()),
        )
    }

    /// A blob that says something about the others.
    async fn small_blob(
        &self,
        oci: &OciReference,
        blob: &Descriptor,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Bytes, Error> {
        let what = format!("{what} `{}` of `{}`", blob.digest, oci.repository());
        let answer = self
            .request(
                oci,
                &format!("blobs/{}", blob.digest),
                Method::GET,
                &what,
                context,
            )
            .await?;
        let bytes = answer.bytes(MAX_MANIFEST_BYTES, &what).await?;
        verify(&blob.digest, &bytes, &what)?;
        Ok(bytes)
    }

    /// Asks by `HEAD`, which registries do not count as a pull; the few that leave the digest out, or know no `HEAD`, are asked by `GET`.
    async fn digest_of_tag(
        &self,
        oci: &OciReference,
        context: &Context<'_>,
    ) -> Result<Digest, Error> {
        let path = format!("manifests/{}", oci.manifest());
        let what = format!("tag `{}` of `{}`", oci.manifest(), oci.repository());
        let header = match self.request(oci, &path, Method::HEAD, &what, context).await {
            Ok(answer) => answer.headers.get("docker-content-digest").cloned(),
            // It knows no `HEAD`.
            Err(error) if error.kind() == ErrorKind::Protocol => None,
            Err(error) => return Err(error),
        };
        if let Some(header) = header {
            let digest = header.to_str().ok().and_then(|text| text.parse().ok());
            return digest.ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "registry `{}` sends a malformed digest for {what}",
                        oci.registry()
                    ),
                )
            });
        }
        let answer = self
            .request(oci, &path, Method::GET, &what, context)
            .await?;
        Ok(Digest::of(&answer.bytes(MAX_MANIFEST_BYTES, &what).await?))
    }
}

fn verify(digest: &Digest, bytes: &[u8], what: &str) -> Result<(), Error> {
    let actual = digest.of_same_kind(bytes);
    if actual == *digest {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::DigestMismatch,
        format!("the registry's {what} has the digest `{actual}`"),
    )
    .hint("the registry, or something before it, changed it: do not use it until you know why"))
}
