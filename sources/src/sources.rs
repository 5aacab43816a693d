//! The way from a reference to verified bytes. Everything that holds for all sources is here, once.

mod fetch;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use moka::future::Cache;
use net::{Hosts, Http, SingleFlight};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use turns::Turns;

use crate::bindle::BindleSource;
use crate::credentials::{CredentialProvider, Keyring};
use crate::file::{Access, FileSource};
use crate::http::HttpSource;
use crate::oci::OciSource;
use crate::oci::push::Publication;
use crate::policy::Policy;
use crate::reference::{Endpoint, OciReference};
use crate::signatures::Signatures;
use crate::source::{Context, Resolution, SharedProgress};
use crate::store::Store;
use crate::wasmer::{self, WapmSource};
use crate::wkg::Registries;
use crate::{Asker, Config, Digest, Error, ErrorKind, Package, Reference, Resolved, Source};

const RESOLVE_TIMEOUT: Duration = Duration::from_mins(2);
/// Of a download, which resolving is where nobody says a digest.
const FETCH_TIMEOUT: Duration = Duration::from_mins(15);
/// How long a workflow's resolved references are remembered after their last use.
const REMEMBER: Duration = Duration::from_hours(6);
/// Modules in memory at once, until they are compiled.
const IN_MEMORY: usize = 4;

/// When to ask the origin, as Kubernetes' `imagePullPolicy` means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask each time what the reference names now. Content that is here already is not downloaded again.
    Always,
    /// Ask only when the reference is not in the store.
    IfNotPresent,
    /// Never ask: the store alone.
    Never,
}

impl PullPolicy {
    /// Kubernetes' default: `Always` for the tag `latest` or none, and what else may change from one day to the next; else `IfNotPresent`.
    pub fn default_for(reference: &Reference) -> Self {
        match reference {
            Reference::Oci(oci)
                if oci.digest().is_none() && matches!(oci.tag(), None | Some("latest")) =>
            {
                Self::Always
            }
            Reference::Wkg(package) if package.version().is_none() => Self::Always,
            Reference::Wapm(package)
                if package.version().is_none() && package.digest().is_none() =>
            {
                Self::Always
            }
            // Nothing says that it is the same tomorrow: the server is asked whether it changed.
            Reference::Http(http) if http.digest().is_none() => Self::Always,
            _ => Self::IfNotPresent,
        }
    }
}

/// Who wants which module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The module.
    pub reference: Reference,
    /// When to ask the origin; `None` for the default.
    pub pull_policy: Option<PullPolicy>,
    /// Within one scope (a workflow's uid) a reference is resolved once, so that all steps run the same bytes.
    pub scope: String,
    /// Whose credentials may be used.
    pub asker: Asker,
}

/// A module's verified bytes.
#[derive(Clone, Debug)]
pub struct Module {
    /// Which module it is, and what it is started with.
    pub package: Arc<Package>,
    /// The bytes. They are what they claim to be; whether they are WebAssembly is not known.
    pub bytes: Bytes,
    /// One of the few places for modules in memory: keep it as long as the bytes.
    pub place: Arc<OwnedSemaphorePermit>,
}

/// All sources, and the store. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    inner: Arc<Inner>,
}

struct Inner {
    sources: BTreeMap<&'static str, Arc<dyn Source>>,
    oci: Arc<OciSource>,
    wkg: Registries,
    /// The Wasmer registry and the Bindle server of references that name none.
    endpoints: (Option<Endpoint>, Option<Endpoint>),
    policy: Policy,
    signatures: Signatures,
    credentials: Box<dyn CredentialProvider>,
    trusted_realms: Vec<String>,
    http: Http,
    store: Store,
    max_module_bytes: u64,
    progress: SharedProgress,
    resolved: Cache<(String, Reference, Asker), Arc<Resolved>>,
    packages: Cache<Digest, Arc<Package>>,
    resolving: SingleFlight<Request, Result<Arc<Resolved>, Error>>,
    fetching: SingleFlight<(Reference, Digest, Asker), Result<Module, Error>>,
    /// Every one may put a file of the largest size into the store.
    downloads: Turns,
    /// Every one may be a module of the largest size in memory.
    places: Arc<Semaphore>,
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
        let access = match (&config.files, any_file) {
            (_, true) => Access::Any,
            (Some(root), false) if !root.is_dir() => {
                let message = format!(
                    "`sources.files`: there is no directory `{}`",
                    root.display()
                );
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
            (Some(root), false) => Access::Below(root.clone()),
            (None, false) => Access::Denied,
        };
        let oci = Arc::new(OciSource::new(config.mirrors.clone()));
        let sources: BTreeMap<&'static str, Arc<dyn Source>> = BTreeMap::from([
            ("oci", Arc::clone(&oci) as Arc<dyn Source>),
            ("http", Arc::new(HttpSource)),
            (
                "wapm",
                Arc::new(WapmSource::new(config.wapm.registry.clone())?),
            ),
            (
                "bindle",
                Arc::new(BindleSource::new(
                    config.bindle.server.clone(),
                    config.bindle.keys.clone(),
                )),
            ),
            (
                "file",
                Arc::new(FileSource::new(access, config.max_module_bytes)),
            ),
        ]);
        let hosts =
            Hosts::new(config.insecure.iter().cloned()).only(config.policy.hosts.iter().cloned());
        let inner = Inner {
            sources,
            oci,
            wkg: config.wkg.clone(),
            endpoints: (config.wapm.registry.clone(), config.bindle.server.clone()),
            policy: config.policy.clone(),
            signatures: Signatures::new(&config.policy.signatures, &config.bindle)?,
            credentials: Box::new(credentials),
            trusted_realms: config.trusted_realms.clone(),
            http: Http::new(&hosts, &config.authorities)?,
            store,
            max_module_bytes: config.max_module_bytes,
            progress,
            resolved: Cache::builder()
                .max_capacity(10_000)
                .time_to_idle(REMEMBER)
                .build(),
            packages: Cache::new(10_000),
            resolving: SingleFlight::default(),
            fetching: SingleFlight::default(),
            downloads: Turns::new(),
            places: Arc::new(Semaphore::new(IN_MEMORY)),
        };
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
            request.asker.clone(),
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
            .unwrap_or_else(|| Err(broke_off("resolving")))
    }

    /// Publishes a module in an OCI registry, under the tag of `reference`; the digest that it has there.
    pub async fn push(
        &self,
        reference: &OciReference,
        publication: &Publication,
        asker: &Asker,
    ) -> Result<Digest, Error> {
        let keyrings = self.inner.credentials.keyrings(asker).await?;
        OciSource::publisher()
            .push(reference, publication, &self.inner.context(&keyrings))
            .await
    }

    /// What is known of the module without downloading anything. `None` when that is nothing.
    pub async fn package(&self, resolved: &Resolved) -> Option<Arc<Package>> {
        self.inner.known(resolved).await
    }

    /// The module's bytes: from the store if they are there, else downloaded, bounded, hashed, stored and unpacked.
    pub async fn fetch(&self, resolved: &Arc<Resolved>, asker: &Asker) -> Result<Module, Error> {
        let (inner, owned, whose) = (Arc::clone(&self.inner), Arc::clone(resolved), asker.clone());
        let work = move || async move {
            let fetched = in_time(FETCH_TIMEOUT, inner.fetch(&owned, &whose)).await;
            fetched.map_err(|error| named(&error, &owned.reference))
        };
        // By reference too: another origin's trouble with the same content is not this one's.
        let key = (
            resolved.reference.clone(),
            resolved.package_key(),
            asker.clone(),
        );
        self.inner
            .fetching
            .join(key, work)
            .await
            .unwrap_or_else(|| Err(broke_off("fetching")))
    }
}

/// Whether its server promised that it is the same today. Who says `Always`, or shows a Secret of their own, has it asked all the same.
fn is_fresh(resolved: &Resolved, request: &Request) -> bool {
    request.pull_policy.is_none()
        && request.asker.secrets.is_empty()
        && resolved.caching.is_fresh(SystemTime::now())
}

/// Whether the content is on this machine already, so that the store need not hold it.
fn is_local(reference: &Reference) -> bool {
    matches!(reference, Reference::File(_))
}

fn named(error: &Error, reference: &Reference) -> Error {
    error
        .clone()
        .context(format_args!("`{}`", reference.redacted()))
}

/// A server that sends a byte now and then must not keep everybody who waits for it.
async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("took longer than {} s", limit.as_secs()),
        ))
    })
}

fn broke_off(what: &str) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("{what} the module broke off; this is a defect of this program"),
    )
}

impl Inner {
    fn source(&self, reference: &Reference) -> Result<&dyn Source, Error> {
        let name = reference.source();
        self.sources
            .get(name)
            .map(|source| &**source)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("there is no source `{name}`"),
                )
            })
    }

    /// The reference without the name of a registry or server, where it has one that is the operator's own: rules hold however it is written.
    fn short(&self, reference: &Reference) -> Option<Reference> {
        match reference {
            Reference::Wapm(package)
                if package.registry().is_some_and(|registry| {
                    wasmer::is_same(registry, self.endpoints.0.as_ref())
                }) =>
            {
                Some(Reference::Wapm(package.clone().in_default_registry()))
            }
            Reference::Bindle(bindle)
                if bindle.server().is_some() && bindle.server() == self.endpoints.1.as_ref() =>
            {
                Some(Reference::Bindle(bindle.clone().on_default_server()))
            }
            _ => None,
        }
    }

    async fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        let reference = &request.reference;
        self.policy.check(reference)?;
        let policy = request
            .pull_policy
            .unwrap_or_else(|| PullPolicy::default_for(reference));
        let local = is_local(reference);
        let stored = if local {
            None
        } else {
            self.stored(reference, &request.asker).await
        };
        let unchecked = stored
            .as_ref()
            .is_some_and(|resolved| !self.signatures.held(resolved));
        let stored = match stored.filter(|_| !unchecked) {
            Some(resolved) if policy != PullPolicy::Always || is_fresh(&resolved, request) => {
                tracing::debug!(reference = %reference.redacted(), artifact = %resolved.artifact, "resolved from the store");
                self.policy.check(&resolved.origin)?;
                return Ok(resolved);
            }
            stored => stored,
        };
        if policy == PullPolicy::Never && !local {
            let message = match unchecked {
                true => {
                    "is in the store, and nobody has checked its signature yet: the pull policy `Never` does not let that be asked for"
                }
                false => "is not in the store, and the pull policy is `Never`",
            };
            let error = Error::new(ErrorKind::NotStored, message);
            return Err(error.hint("pull it first, or use the pull policy `IfNotPresent`"));
        }
        let keyrings = self.keyrings(reference, &request.asker).await?;
        let context = self.context(&keyrings);
        let origin = match reference {
            Reference::Wkg(package) => {
                let origin = self.wkg.locate(package, &self.oci, &context).await?;
                self.policy.check(&origin)?;
                origin
            }
            itself => itself.clone(),
        };
        self.signatures.check_origin(reference, &origin)?;
        let source = self.source(&origin)?;
        let mut resolved = self
            .resolve_at(source, &origin, stored.as_ref(), &context)
            .await;
        if self.is_mirrors_fault(&resolved, &origin) {
            resolved = self
                .resolve_at(source, &origin, stored.as_ref(), &context.without_mirrors())
                .await;
        }
        let resolved = resolved.map_err(|error| match (&stored, error.kind()) {
            (Some(_), ErrorKind::Unavailable) => error.hint(
                "what it was is in the store: with the pull policy `IfNotPresent` that runs, and nobody is asked",
            ),
            _ => error,
        })?;
        let resolved = Resolved {
            reference: reference.clone(),
            ..resolved
        };
        // A name without a version led to one.
        self.policy.check(&resolved.origin)?;
        let resolved = self.check_signatures(resolved, &context).await?;
        tracing::info!(reference = %reference.redacted(), artifact = %resolved.artifact, "resolved");
        // The content may be here under another reference, and then nobody fetches it.
        if !local && (resolved.caching.no_store || self.holds(&resolved).await) {
            self.remember(&resolved, &request.asker).await;
        }
        Ok(resolved)
    }

    async fn resolve_at(
        &self,
        source: &dyn Source,
        origin: &Reference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        // The content may come at once.
        let may_arrive =
            origin.pinned().is_none() && matches!(origin, Reference::Http(_) | Reference::Wapm(_));
        let _turn = if may_arrive {
            Some(self.downloads.take(&origin.server()).await?)
        } else {
            None
        };
        let attempt = || async {
            let resolving = in_time(RESOLVE_TIMEOUT, source.resolve(origin, stored, context));
            // The HTTP client already retried a failed request.
            match resolving.await.map_err(Error::already_retried)? {
                Resolution::Exact(resolved) => Ok(*resolved),
                Resolution::Arrived(arrived) => self.keep(origin, *arrived).await,
            }
        };
        fetch::retry(attempt).await
    }

    /// What is in the store and the same as before was checked then.
    async fn check_signatures(
        &self,
        resolved: Resolved,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        if self.signatures.held(&resolved) {
            return Ok(resolved);
        }
        let mut signed = self.signatures.check(&resolved, &self.oci, context).await;
        // A mirror need not have the signatures of what it has.
        let unsigned = matches!(&signed, Err(error) if error.kind() == ErrorKind::Denied && self.oci.is_mirrored(&resolved.origin));
        if unsigned || self.is_mirrors_fault(&signed, &resolved.origin) {
            signed = self
                .signatures
                .check(&resolved, &self.oci, &context.without_mirrors())
                .await;
        }
        Ok(Resolved {
            signed: signed?,
            ..resolved
        })
    }

    async fn keyrings(&self, reference: &Reference, asker: &Asker) -> Result<Vec<Keyring>, Error> {
        if is_local(reference) {
            Ok(Vec::new())
        } else {
            self.credentials.keyrings(asker).await
        }
    }

    fn context<'a>(&'a self, keyrings: &'a [Keyring]) -> Context<'a> {
        Context {
            http: &self.http,
            keyrings,
            trusted_realms: &self.trusted_realms,
            direct: false,
        }
    }

    /// What the reference resolved to earlier, if all of it is still here.
    async fn stored(&self, reference: &Reference, asker: &Asker) -> Option<Resolved> {
        let (store, reference, asker) = (self.store.clone(), reference.clone(), asker.clone());
        let look = move || {
            let resolved = store
                .resolved(&reference, &asker)
                .filter(|resolved| store.holds(resolved))?;
            store.touch(&resolved);
            Some(resolved)
        };
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    async fn holds(&self, resolved: &Resolved) -> bool {
        let (store, resolved) = (self.store.clone(), resolved.clone());
        tokio::task::spawn_blocking(move || store.holds(&resolved))
            .await
            .unwrap_or(false)
    }

    async fn known(&self, resolved: &Resolved) -> Option<Arc<Package>> {
        let key = resolved.package_key();
        if let Some(package) = self.packages.get(&key).await {
            return Some(package);
        }
        let (store, looked_up) = (self.store.clone(), key.clone());
        let package = tokio::task::spawn_blocking(move || store.package(&looked_up))
            .await
            .ok()??;
        let package = Arc::new(package);
        self.packages.insert(key, Arc::clone(&package)).await;
        Some(package)
    }

    /// Remembering is a convenience: a store that cannot be written fails no step whose content is here.
    async fn remember(&self, resolved: &Resolved, asker: &Asker) {
        let (store, resolved, asker) = (self.store.clone(), resolved.clone(), asker.clone());
        let remember = move || match resolved.caching.no_store {
            true => store.forget(&resolved.reference, &asker),
            false => store.remember(&resolved, &asker),
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(remember).await {
            tracing::warn!(%error, "the reference is not remembered");
        }
    }
}
