//! The way from a reference to verified bytes. Everything that holds for all sources is here, once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::credentials::CredentialProvider;
use crate::inner::{Inner, in_time};
use crate::oci::OciSource;
use crate::oci::push::Publication;
use crate::reference::OciReference;
use crate::source::SharedProgress;
use crate::store::Store;
use crate::{
    Config, Digest, Error, FetchedModule, Package, Reference, Request, Requester, Resolved,
};

/// Of a download, which resolving is where nobody says a digest.
const FETCH_TIMEOUT: Duration = Duration::from_mins(15);

/// All sources, and the store. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    inner: Arc<Inner>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("sources", &self.inner.sources)
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// The sources as configured, with their store. `any_file` opens the whole machine to `file://`, for the command line.
    pub fn new(
        config: &Config,
        store: Store,
        credentials: impl CredentialProvider,
        any_file: bool,
        progress: SharedProgress,
    ) -> Result<Self, Error> {
        let inner = Inner::new(config, store, credentials, any_file, progress)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Finds out what exactly is wanted: once per request and scope.
    pub async fn resolve(&self, request: &Request) -> Result<Arc<Resolved>, Error> {
        let short = self
            .inner
            .short(&request.reference)
            .map(|reference| Request {
                reference,
                ..request.clone()
            });
        let request = short.as_ref().unwrap_or(request);
        // Whatever the pull policy: all steps of a workflow run the same bytes.
        let key = (
            request.scope.clone(),
            request.reference.clone(),
            request.requester.clone(),
        );
        if let Some(resolved) = self.inner.resolved.get(&key).await {
            return Ok(resolved);
        }
        let (inner, owned) = (Arc::clone(&self.inner), request.clone());
        let work = move || async move {
            let resolved = in_time(FETCH_TIMEOUT, Box::pin(inner.resolve(&owned))).await;
            let resolved = resolved.map_err(|error| named(&error, &owned.reference))?;
            // Somebody with another pull policy may have been faster.
            Ok(inner
                .resolved
                .entry(key)
                .or_insert(Arc::new(resolved))
                .await
                .into_value())
        };
        self.inner
            .resolving
            .join(request.clone(), work)
            .await
            .unwrap_or_else(|| Err(Error::broke_off("resolving")))
    }

    /// Publishes a module in an OCI registry, under the tag of `reference`; the digest that it has there.
    pub async fn push(
        &self,
        reference: &OciReference,
        publication: &Publication,
        requester: &Requester,
    ) -> Result<Digest, Error> {
        let keyrings = self.inner.credentials.keyrings(requester).await?;
        OciSource::publisher()
            .push(reference, publication, &self.inner.context(&keyrings))
            .await
    }

    /// What is known of the module without downloading anything. `None` when that is nothing.
    pub async fn package(&self, resolved: &Resolved) -> Option<Arc<Package>> {
        self.inner.known(resolved).await
    }

    /// The module's bytes: from the store if they are there, else downloaded, bounded, hashed, stored and unpacked.
    pub async fn fetch(
        &self,
        resolved: &Arc<Resolved>,
        requester: &Requester,
    ) -> Result<FetchedModule, Error> {
        let (inner, owned, whose) = (
            Arc::clone(&self.inner),
            Arc::clone(resolved),
            requester.clone(),
        );
        let work = move || async move {
            let fetched = in_time(FETCH_TIMEOUT, inner.fetch(&owned, &whose)).await;
            fetched.map_err(|error| named(&error, &owned.reference))
        };
        // By reference too: another origin's trouble with the same content is not this one's.
        let key = (
            resolved.reference.clone(),
            resolved.package_key(),
            requester.clone(),
        );
        self.inner
            .fetching
            .join(key, work)
            .await
            .unwrap_or_else(|| Err(Error::broke_off("fetching")))
    }
}

fn named(error: &Error, reference: &Reference) -> Error {
    error
        .clone()
        .context(format_args!("`{}`", reference.redacted()))
}
