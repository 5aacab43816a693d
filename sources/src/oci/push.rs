//! Pushes a module as an artifact in the CNCF's format for WebAssembly, version 0
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).
//!
//! The steps are those of the distribution specification ("Pushing a blob monolithically"):
//!
//! 1. `POST` opens an upload session, and the registry returns its `Location`;
//! 2. `PUT` sends the blob to that location;
//! 3. after both blobs, `PUT` sends the manifest.
//!
//! A blob that the registry already has is not uploaded: `HEAD` finds it.

use std::collections::BTreeMap;

use bytes::Bytes;
use net::{Content, Request};
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::manifest::OCI_MANIFEST;
use super::repository::Repository;
use super::select::{CNCF_CONFIG, CNCF_MODULE};
use super::{OciSource, fails_for_every_method};
use crate::reference::OciReference;
use crate::source::Context;
use crate::{Digest, Error, ErrorKind};

const BINARY: &str = "application/octet-stream";

/// A module to push, with its metadata.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The bytes of the module.
    pub module: Bytes,
    /// The time of creation, RFC 3339.
    pub created: String,
    /// The interfaces of a component. `None` for a core module.
    pub component: Option<Interfaces>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// The names of a component's interfaces.
#[derive(Clone, Debug, Serialize)]
pub struct Interfaces {
    /// Names of the interfaces that the component exports.
    pub exports: Vec<String>,
    /// Names of the interfaces that the component imports.
    pub imports: Vec<String>,
}

impl Publication {
    /// The configuration blob of the artifact.
    fn config(&self, module: &Digest) -> Bytes {
        let os = if self.component.is_some() {
            "wasip2"
        } else {
            "wasip1"
        };
        let mut config = json!({"created": self.created, "architecture": "wasm", "os": os, "layerDigests": [module]});
        if let Some(component) = &self.component {
            config["component"] = json!(component);
        }
        config.to_string().into()
    }
}

/// A blob to upload, with the fields of its descriptor.
struct Blob<'a> {
    media_type: &'a str,
    digest: Digest,
    bytes: &'a Bytes,
}

impl<'a> Blob<'a> {
    fn new(media_type: &'a str, bytes: &'a Bytes) -> Self {
        Self {
            media_type,
            digest: Digest::of(bytes),
            bytes,
        }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

fn manifest(config: &Blob<'_>, module: &Blob<'_>, annotations: &BTreeMap<String, String>) -> Bytes {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [module.descriptor()],
    });
    if !annotations.is_empty() {
        manifest["annotations"] = json!(annotations);
    }
    manifest.to_string().into()
}

impl OciSource {
    /// Pushes the module under the tag of the reference. Returns the digest of the manifest.
    pub(crate) async fn push(
        &self,
        oci: &OciReference,
        publication: &Publication,
        context: &Context<'_>,
    ) -> Result<Digest, Error> {
        let repository = &Repository::of(oci);
        let module = Blob::new(CNCF_MODULE, &publication.module);
        let config = publication.config(&module.digest);
        let config = Blob::new(CNCF_CONFIG, &config);
        self.push_blob(repository, &module, "module", context)
            .await?;
        self.push_blob(repository, &config, "configuration", context)
            .await?;
        let manifest = manifest(&config, &module, &publication.annotations);
        let url = repository.url(&format!("manifests/{}", oci.manifest()), context)?;
        let what = format!("tag `{}` of `{}`", oci.manifest(), repository.name);
        self.send(
            repository,
            &put(url, OCI_MANIFEST, &manifest),
            &what,
            context,
        )
        .await?;
        Ok(Digest::of(&manifest))
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Blob<'_>,
        what: &str,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let what = format!("upload of the {what} to `{}`", repository.name);
        let url = repository.url(&format!("blobs/{}", blob.digest), context)?;
        let exists = Request {
            method: Method::HEAD,
            ..Request::get(url)
        };
        match self.send(repository, &exists, &what, context).await {
            Ok(_) => return Ok(()),
            Err(error) if fails_for_every_method(&error) => return Err(error),
            // The registry does not have the blob, or refuses `HEAD`. The upload shows which.
            Err(error) => tracing::debug!(%error, "the blob is uploaded"),
        }
        let start = Request::post(
            repository.url("blobs/uploads/", context)?,
            BINARY,
            Bytes::new(),
        );
        let answer = self.send(repository, &start, &what, context).await?;
        let malformed = || {
            let registry = &repository.registry;
            Error::new(
                ErrorKind::Protocol,
                format!("registry `{registry}` sends no usable `Location` for an upload"),
            )
        };
        let location = answer
            .headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        let location = location.ok_or_else(malformed)?;
        let mut target = answer
            .url
            .join(location)
            .map_err(|error| malformed().caused_by(error))?;
        target
            .query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let upload = put(target, BINARY, blob.bytes);
        if upload.url.origin() == start.url.origin() {
            return self
                .send(repository, &upload, &what, context)
                .await
                .map(drop);
        }
        // The registry may name a storage server. Credentials for the registry are not sent there.
        let answer = context.http.send(&upload).await?;
        if answer.status == StatusCode::CREATED {
            Ok(())
        } else {
            Err(answer.error(&what).into())
        }
    }
}

fn put(url: Url, media_type: &'static str, bytes: &Bytes) -> Request {
    Request {
        method: Method::PUT,
        content: Some(Content {
            media_type,
            bytes: bytes.clone(),
        }),
        ..Request::get(url)
    }
}
