//! The interface of this crate: [`Sources`] resolves references and fetches modules.
//!
//! Both operations are single flights: requests that are equal share one task and its result.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::bindle::BindleSource;
use crate::credentials::CredentialProvider;
use crate::file::{Access, FileSource};
use crate::http::HttpSource;
use crate::inner::{FetchKey, Inner, ResolvedKey, in_time};
use crate::oci::OciSource;
use crate::oci::push::Publication;
use crate::reference::OciReference;
use crate::source::SharedProgress;
use crate::source_table::SourceTable;
use crate::store::Store;
use crate::wasmer::WasmerSource;
use crate::wkg::WkgLocator;
use crate::{
    Config, Digest, Error, ErrorKind, FetchedModule, Package, Reference, Request, Requester,
    Resolved,
};

/// The longest time of one download. Resolving has the same limit, because a reference without a
/// digest is downloaded when it is resolved.
const FETCH_TIMEOUT: Duration = Duration::from_mins(15);

/// All sources and the store. Cheap to clone.
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
    /// Creates the configured sources. With `any_file`, `file://` references may name any file on
    /// this machine: for the command line.
    ///
    /// # Errors
    ///
    /// The configuration is invalid.
    pub fn new(
        config: &Config,
        store: Store,
        credentials: impl CredentialProvider,
        any_file: bool,
        progress: SharedProgress,
    ) -> Result<Self, Error> {
        let access = file_access(config, any_file)?;
        let inner = Inner::new(config, all(config, access)?, store, credentials, progress)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Resolves the reference to exact content. Within one scope, a requester gets the same result
    /// each time.
    pub async fn resolve(&self, request: &Request) -> Result<Arc<Resolved>, Error> {
        let reference = self
            .inner
            .sources
            .without_default_server(&request.reference)
            .unwrap_or_else(|| request.reference.clone());
        let key = ResolvedKey {
            scope: request.scope.clone(),
            reference,
            requester: request.requester.clone(),
        };
        if let Some(resolved) = self.inner.resolved.get(&key).await {
            return Ok(resolved);
        }
        self.resolve_once(request, key).await
    }

    /// Resolves a reference that is not in the cache. Concurrent requests share one run.
    fn resolve_once(
        &self,
        request: &Request,
        key: ResolvedKey,
    ) -> BoxFuture<'static, Result<Arc<Resolved>, Error>> {
        let request = Request {
            reference: key.reference.clone(),
            ..request.clone()
        };
        let inner = Arc::clone(&self.inner);
        let owned = request.clone();
        let work = move || async move {
            let resolved = in_time(FETCH_TIMEOUT, Box::pin(inner.resolve(&owned))).await;
            let resolved = resolved.map_err(|error| named(&error, &owned.reference))?;
            // A request with another pull policy may have finished first. Its result is then used.
            Ok(inner
                .resolved
                .entry(key)
                .or_insert(Arc::new(resolved))
                .await
                .into_value())
        };
        let resolving = self.inner.resolving.join(request, work);
        Box::pin(async {
            let ended = resolving.await;
            ended.unwrap_or_else(|| Err(Error::task_ended("resolving")))
        })
    }

    /// Publishes a module in an OCI registry, under the tag of `reference`. Returns the digest of
    /// the manifest.
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

    /// Whether the content of the reference is on this machine. The store has no local content.
    pub fn is_local(&self, reference: &Reference) -> bool {
        self.inner.sources.is_local(reference)
    }

    /// Whether the namespace of the requester has downloaded the content before. Otherwise it must
    /// [fetch](Self::fetch) the content before it may use compiled code of the module.
    ///
    /// `resolved` must be a result of [`resolve`](Self::resolve) for this requester.
    pub async fn may_use(&self, resolved: &Resolved, requester: &Requester) -> bool {
        if resolved.granted.is_known() {
            return true;
        }
        // The request of this requester has read the content itself.
        let is_own = resolved.ephemeral.is_some() || self.is_local(&resolved.origin);
        let granted = is_own || self.inner.offers_all(resolved, requester).await;
        if granted {
            resolved.granted.set();
        }
        granted
    }

    /// The description of the module, if the store or the memory has one. Downloads nothing.
    pub async fn package(&self, resolved: &Resolved) -> Option<Arc<Package>> {
        self.inner.known(resolved).await
    }

    /// The verified bytes of the module, from the store or from the origin.
    pub async fn fetch(
        &self,
        resolved: &Arc<Resolved>,
        requester: &Requester,
    ) -> Result<FetchedModule, Error> {
        let inner = Arc::clone(&self.inner);
        let owned = Arc::clone(resolved);
        let owner = requester.clone();
        let work = move || async move {
            let fetched = in_time(FETCH_TIMEOUT, inner.fetch(&owned, &owner)).await;
            fetched.map_err(|error| named(&error, &owned.reference))
        };
        let key = FetchKey {
            reference: resolved.reference.clone(),
            package: resolved.package_key(),
            requester: requester.clone(),
        };
        self.inner
            .fetching
            .join(key, work)
            .await
            .unwrap_or_else(|| Err(Error::task_ended("fetching")))
    }
}

/// The table of all sources. A new source needs one line here.
fn all(config: &Config, access: Access) -> Result<SourceTable, Error> {
    let oci = Arc::new(OciSource::new(config.mirrors.clone()));
    let wasmer = WasmerSource::new(config.wapm.registry.clone())?;
    let server = config.bindle.server.clone();
    let bindle = BindleSource::new(server, config.bindle.keys.clone());
    let files = FileSource::new(access, config.max_module_size);
    let table = SourceTable::default()
        .source(Arc::clone(&oci))
        .source(Arc::new(HttpSource))
        .source(Arc::new(wasmer))
        .source(Arc::new(bindle))
        .source(Arc::new(files))
        .locator(WkgLocator::new(config.wkg.clone(), oci));
    #[cfg(test)]
    let table = table.source(Arc::new(crate::toy::ToySource));
    Ok(table)
}

/// The files that `file://` references may name. With `any_file`, every file of this machine.
fn file_access(config: &Config, any_file: bool) -> Result<Access, Error> {
    if any_file {
        return Ok(Access::Any);
    }
    match &config.file_root {
        None => Ok(Access::Denied),
        Some(root) if root.is_dir() => Ok(Access::Below(root.clone())),
        Some(root) => {
            let root = root.display();
            let message = format!("`sources.fileRoot`: there is no directory `{root}`");
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
    }
}

/// The error with the reference before its message.
fn named(error: &Error, reference: &Reference) -> Error {
    error
        .clone()
        .context(format_args!("`{}`", reference.redacted()))
}
