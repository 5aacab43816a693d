//! Publishing a module in the CNCF's layout for WebAssembly artifacts, version 0 (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).
//!
//! Uploads are the distribution specification's: start a session, put the blob where the registry says, then the manifest.

use std::collections::BTreeMap;

use bytes::Bytes;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;
use url::Url;

use super::{OciSource, registry_url};
use crate::reference::OciReference;
use crate::source::Context;
use crate::transport::Request;
use crate::{Digest, Error, ErrorKind};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const MODULE_TYPE: &str = "application/wasm";

/// A module to publish, and what its artifact says of it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The module.
    pub module: Bytes,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What it wants and offers, if it is a component.
    pub component: Option<Interfaces>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// The names of interfaces.
#[derive(Clone, Debug, Serialize)]
pub struct Interfaces {
    /// What the component offers.
    pub exports: Vec<String>,
    /// What it wants.
    pub imports: Vec<String>,
}

impl Publication {
    /// The configuration that goes beside the module.
    fn config(&self) -> Bytes {
        let os = if self.component.is_some() { "wasip2" } else { "wasip1" };
        let mut config = json!({
            "created": self.created,
            "architecture": "wasm",
            "os": os,
            "layerDigests": [Digest::of(&self.module)],
        });
        if let Some(component) = &self.component {
            config["component"] = json!(component);
        }
        config.to_string().into()
    }

    fn manifest(&self, config: &Bytes) -> Bytes {
        let describe = |media_type: &str, bytes: &Bytes| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": describe(CONFIG_TYPE, config),
            "layers": [describe(MODULE_TYPE, &self.module)],
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        manifest.to_string().into()
    }
}

impl OciSource {
    /// Publishes under the reference's tag; the digest of the manifest.
    pub(crate) async fn push(
        &self,
        oci: &OciReference,
        publication: &Publication,
        context: &Context<'_>,
    ) -> Result<Digest, Error> {
        let config = publication.config();
        self.push_blob(oci, &publication.module, "module", context).await?;
        self.push_blob(oci, &config, "configuration", context).await?;
        let manifest = publication.manifest(&config);
        let url = registry_url(oci.registry(), oci.repository(), &format!("manifests/{}", oci.manifest()), context)?;
        let body = Some((MANIFEST_TYPE, manifest.clone()));
        let request = Request { method: Method::PUT, body, ..Request::get(url) };
        let what = format!("tag `{}` of `{}`", oci.manifest(), oci.repository());
        self.send(oci.registry(), oci.repository(), &request, &what, context).await?;
        Ok(Digest::of(&manifest))
    }

    async fn push_blob(
        &self,
        oci: &OciReference,
        bytes: &Bytes,
        what: &str,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let (registry, repository) = (oci.registry(), oci.repository());
        let (digest, what) = (Digest::of(bytes), format!("upload of the {what} to `{repository}`"));
        let there = Request {
            method: Method::HEAD,
            ..Request::get(registry_url(registry, repository, &format!("blobs/{digest}"), context)?)
        };
        match self.send(registry, repository, &there, &what, context).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let start = registry_url(registry, repository, "blobs/uploads/", context)?;
        let answer = self
            .send(
                registry,
                repository,
                &Request::post(start.clone(), "application/octet-stream", Bytes::new()),
                &what,
                context,
            )
            .await?;
        let malformed =
            || Error::new(ErrorKind::Protocol, format!("registry `{registry}` does not say where to put an upload"));
        let location =
            answer.headers.get(LOCATION).and_then(|location| location.to_str().ok()).ok_or_else(malformed)?;
        let mut target = answer.url.join(location).map_err(|error| malformed().caused_by(error))?;
        target.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put = Request {
            method: Method::PUT,
            body: Some(("application/octet-stream", bytes.clone())),
            ..Request::get(target)
        };
        self.put(oci, &start, &put, &what, context).await
    }

    /// Registries may keep blobs elsewhere. Credentials do not go there.
    async fn put(
        &self,
        oci: &OciReference,
        registry: &Url,
        request: &Request,
        what: &str,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        if request.url.origin() == registry.origin() {
            return self.send(oci.registry(), oci.repository(), request, what, context).await.map(drop);
        }
        let answer = context.http.send(request).await?;
        if answer.status == StatusCode::CREATED { Ok(()) } else { Err(answer.error(what)) }
    }
}
