//! The way from a reference to verified bytes. Everything that holds for all sources is here, once.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use moka::future::Cache;
use serde::{Deserialize, Serialize};

use crate::credentials::{CredentialProvider, Keyring};
use crate::file::{Access, FileSource};
use crate::http::HttpSource;
use crate::oci::OciSource;
use crate::oci::push::Publication;
use crate::policy::Policy;
use crate::reference::OciReference;
use crate::source::{Body, Context, Part, SharedProgress, Unpack};
use crate::store::{Store, mismatch};
use crate::transport::{Hosts, Http};
use crate::wkg::Registries;
use crate::{Asker, Config, Digest, Error, ErrorKind, Flights, Package, Reference, Resolved, Source, unpack};

const FETCH_ATTEMPTS: u32 = 3;
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(2);
const FETCH_TIMEOUT: Duration = Duration::from_mins(15);
/// How long a workflow's resolved references are remembered after their last use.
const REMEMBER: Duration = Duration::from_hours(6);

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
    /// Kubernetes' default: `Always` for the tag `latest` or none, else `IfNotPresent`.
    pub fn default_for(reference: &Reference) -> Self {
        match reference {
            Reference::Oci(oci) if oci.digest().is_none() && matches!(oci.tag(), None | Some("latest")) => Self::Always,
            Reference::Wkg(package) if package.version().is_none() => Self::Always,
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
    policy: Policy,
    credentials: Box<dyn CredentialProvider>,
    trusted_realms: Vec<String>,
    http: Http,
    store: Store,
    max_module_bytes: u64,
    progress: SharedProgress,
    resolved: Cache<(String, Reference, Asker), Arc<Resolved>>,
    packages: Cache<Digest, Arc<Package>>,
    resolving: Flights<Request, Result<Arc<Resolved>, Error>>,
    fetching: Flights<(Reference, Digest, Asker), Result<Module, Error>>,
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
                let message = format!("`sources.files`: there is no directory `{}`", root.display());
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
            (Some(root), false) => Access::Below(root.clone()),
            (None, false) => Access::Denied,
        };
        let oci = Arc::new(OciSource::new(config.mirrors.clone()));
        let sources: BTreeMap<&'static str, Arc<dyn Source>> = BTreeMap::from([
            ("oci", Arc::clone(&oci) as Arc<dyn Source>),
            ("http", Arc::new(HttpSource)),
            ("file", Arc::new(FileSource::new(access, config.max_module_bytes))),
        ]);
        let hosts = Hosts::new(config.insecure.iter().cloned()).only(config.policy.hosts.iter().cloned());
        let inner = Inner {
            sources,
            oci,
            wkg: config.wkg.clone(),
            policy: config.policy.clone(),
            credentials: Box::new(credentials),
            trusted_realms: config.trusted_realms.clone(),
            http: Http::new(hosts, &config.authorities)?,
            store,
            max_module_bytes: config.max_module_bytes,
            progress,
            resolved: Cache::builder().max_capacity(10_000).time_to_idle(REMEMBER).build(),
            packages: Cache::new(10_000),
            resolving: Flights::default(),
            fetching: Flights::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Finds out what exactly is wanted: once per request and scope.
    pub async fn resolve(&self, request: &Request) -> Result<Arc<Resolved>, Error> {
        // Whatever the pull policy: all steps of a workflow run the same bytes.
        let key = (request.scope.clone(), request.reference.clone(), request.asker.clone());
        if let Some(resolved) = self.inner.resolved.get(&key).await {
            return Ok(resolved);
        }
        let (inner, owned) = (Arc::clone(&self.inner), request.clone());
        let work = move || async move {
            let resolved = in_time(RESOLVE_TIMEOUT, inner.resolve(&owned)).await;
            let resolved = resolved.map_err(|error| named(&error, &owned.reference))?;
            // Somebody with another pull policy may have been faster.
            Ok(inner.resolved.entry(key).or_insert(Arc::new(resolved)).await.into_value())
        };
        self.inner.resolving.join(request.clone(), work).await.unwrap_or_else(|| Err(broke_off("resolving")))
    }

    /// Publishes a module in an OCI registry, under the tag of `reference`; the digest that it has there.
    pub async fn push(
        &self,
        reference: &OciReference,
        publication: &Publication,
        asker: &Asker,
    ) -> Result<Digest, Error> {
        let keyrings = self.inner.credentials.keyrings(asker).await?;
        OciSource::publisher().push(reference, publication, &self.inner.context(&keyrings)).await
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
        let key = (resolved.reference.clone(), resolved.package_key(), asker.clone());
        self.inner.fetching.join(key, work).await.unwrap_or_else(|| Err(broke_off("fetching")))
    }
}

/// Whether the content is on this machine already, so that the store need not hold it.
fn is_local(reference: &Reference) -> bool {
    matches!(reference, Reference::File(_))
}

fn named(error: &Error, reference: &Reference) -> Error {
    error.clone().context(format_args!("`{}`", reference.redacted()))
}

/// A server that sends a byte now and then must not keep everybody who waits for it.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, format!("took longer than {} s", limit.as_secs()))))
}

fn broke_off(what: &str) -> Error {
    Error::new(ErrorKind::Store, format!("{what} the module broke off; this is a defect of this program"))
}

impl Inner {
    fn source(&self, reference: &Reference) -> Result<&dyn Source, Error> {
        let name = reference.source();
        self.sources
            .get(name)
            .map(|source| &**source)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("there is no source `{name}`")))
    }

    async fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        let reference = &request.reference;
        self.policy.check(reference)?;
        let policy = request.pull_policy.unwrap_or_else(|| PullPolicy::default_for(reference));
        let local = is_local(reference);
        if policy != PullPolicy::Always
            && !local
            && let Some(resolved) = self.stored(reference, &request.asker).await
        {
            tracing::debug!(reference = %reference.redacted(), artifact = %resolved.artifact, "resolved from the store");
            self.policy.check(&resolved.origin)?;
            return Ok(resolved);
        }
        if policy == PullPolicy::Never && !local {
            let error = Error::new(ErrorKind::NotStored, "is not in the store, and the pull policy is `Never`");
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
        let resolved = self.source(&origin)?.resolve(&origin, &context).await?;
        let resolved = Resolved { reference: reference.clone(), ..resolved };
        tracing::info!(reference = %reference.redacted(), artifact = %resolved.artifact, "resolved");
        // The content may be here under another reference, and then nobody fetches it.
        if !local && self.holds(&resolved).await {
            self.remember(&resolved, &request.asker).await;
        }
        Ok(resolved)
    }

    async fn keyrings(&self, reference: &Reference, asker: &Asker) -> Result<Vec<Keyring>, Error> {
        if is_local(reference) { Ok(Vec::new()) } else { self.credentials.keyrings(asker).await }
    }

    fn context<'a>(&'a self, keyrings: &'a [Keyring]) -> Context<'a> {
        Context { http: &self.http, keyrings, trusted_realms: &self.trusted_realms }
    }

    /// What the reference resolved to earlier, if all of it is still here.
    async fn stored(&self, reference: &Reference, asker: &Asker) -> Option<Resolved> {
        let (store, reference, asker) = (self.store.clone(), reference.clone(), asker.clone());
        let look = move || store.resolved(&reference, &asker).filter(|resolved| store.holds(resolved));
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    async fn holds(&self, resolved: &Resolved) -> bool {
        let (store, resolved) = (self.store.clone(), resolved.clone());
        tokio::task::spawn_blocking(move || store.holds(&resolved)).await.unwrap_or(false)
    }

    async fn known(&self, resolved: &Resolved) -> Option<Arc<Package>> {
        let key = resolved.package_key();
        if let Some(package) = self.packages.get(&key).await {
            return Some(package);
        }
        let (store, looked_up) = (self.store.clone(), key.clone());
        let package = tokio::task::spawn_blocking(move || store.package(&looked_up)).await.ok()??;
        let package = Arc::new(package);
        self.packages.insert(key, Arc::clone(&package)).await;
        Some(package)
    }

    async fn fetch(&self, resolved: &Resolved, asker: &Asker) -> Result<Module, Error> {
        let source = self.source(&resolved.origin)?;
        let sizes = resolved.parts.iter().filter_map(|part| part.size);
        let (largest, all) =
            sizes.fold((0, 0u64), |(largest, all), size| (size.max(largest), all.saturating_add(size)));
        if largest > self.max_module_bytes {
            return Err(too_large(largest, self.max_module_bytes));
        }
        if all > self.max_module_bytes.saturating_mul(4) {
            return Err(too_large(all, self.max_module_bytes));
        }
        let module = if is_local(&resolved.origin) {
            self.unpack_local(source, resolved).await?
        } else {
            let keyrings = self.keyrings(&resolved.origin, asker).await?;
            self.download_missing(source, resolved, &keyrings).await?;
            let mut module = self.unpack_stored(resolved).await?;
            if module.is_none() {
                // The disk lost or changed some of it: once more.
                self.download_missing(source, resolved, &keyrings).await?;
                module = self.unpack_stored(resolved).await?;
            }
            let module = module.ok_or_else(|| Error::new(ErrorKind::Store, "was stored and is gone"))?;
            self.remember(resolved, asker).await;
            module
        };
        self.packages.insert(resolved.package_key(), Arc::clone(&module.package)).await;
        Ok(module)
    }

    async fn download_missing(
        &self,
        source: &dyn Source,
        resolved: &Resolved,
        keyrings: &[Keyring],
    ) -> Result<(), Error> {
        for part in &resolved.parts {
            let (store, digest) = (self.store.clone(), part.digest.clone());
            if blocking(move || Ok(store.contains(&digest))).await? {
                continue;
            }
            let mut attempt = 1;
            while let Err(error) = self.download(source, resolved, part, keyrings).await {
                if !error.retryable() || attempt == FETCH_ATTEMPTS {
                    return Err(error);
                }
                tracing::warn!(%error, attempt, "download failed, trying again");
                tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
                attempt += 1;
            }
        }
        Ok(())
    }

    /// Takes the module out of the parts in the store. `None` when one of them is not there whole any more.
    async fn unpack_stored(&self, resolved: &Resolved) -> Result<Option<Module>, Error> {
        let (store, resolved) = (self.store.clone(), resolved.clone());
        let limits = unpack::Limits { module: self.max_module_bytes };
        blocking(move || {
            let mut gone = false;
            let mut part = |number: usize| {
                let part: &Part = &resolved.parts[number];
                store.read(&part.digest, limits.module).ok_or_else(|| {
                    gone = true;
                    Error::new(ErrorKind::Store, "the store lost a part of the module")
                })
            };
            let module = match unpack(&resolved, &mut part, limits) {
                Err(_) if gone => return Ok(None),
                unpacked => unpacked?,
            };
            store.remember_package(&resolved.package_key(), &module.package)?;
            Ok(Some(module))
        })
        .await
    }

    async fn unpack_local(&self, source: &dyn Source, resolved: &Resolved) -> Result<Module, Error> {
        let [part] = resolved.parts.as_slice() else { return Err(broke_off("reading")) };
        let bytes = self.read_local(source, resolved, part).await?;
        let (resolved, limits) = (resolved.clone(), unpack::Limits { module: self.max_module_bytes });
        blocking(move || unpack(&resolved, &mut |_| Ok(bytes.clone()), limits)).await
    }

    /// Remembering is a convenience: a store that cannot be written fails no step whose content is here.
    async fn remember(&self, resolved: &Resolved, asker: &Asker) {
        let (store, resolved, asker) = (self.store.clone(), resolved.clone(), asker.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.remember(&resolved, &asker)).await {
            tracing::warn!(%error, "the reference is not remembered");
        }
    }

    async fn read_local(&self, source: &dyn Source, resolved: &Resolved, part: &Part) -> Result<Bytes, Error> {
        let body = source.open_unverified(resolved, part, &self.context(&[])).await?;
        let mut bytes = Vec::new();
        let mut stream = body.stream;
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        let actual = Digest::of(&bytes);
        if actual == part.digest { Ok(bytes.into()) } else { Err(mismatch(&part.digest, &actual)) }
    }

    async fn download(
        &self,
        source: &dyn Source,
        resolved: &Resolved,
        part: &Part,
        keyrings: &[Keyring],
    ) -> Result<(), Error> {
        let Body { mut stream, length } = source.open_unverified(resolved, part, &self.context(keyrings)).await?;
        let expected = part.size.or(length);
        if let Some(length) = length {
            self.check_length(length, part)?;
        }
        let (store, digest) = (self.store.clone(), part.digest.clone());
        let mut writer = blocking(move || store.writer(&digest)).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            let arriving = writer.written() + chunk.len() as u64;
            self.check_length_so_far(arriving, part)?;
            writer = blocking(move || writer.write(&chunk).map(|()| writer)).await?;
            self.progress.downloaded(writer.written(), expected);
        }
        if let Some(size) = part.size.filter(|size| *size != writer.written()) {
            let written = writer.written();
            return Err(Error::new(ErrorKind::Unavailable, format!("only {written} of {size} bytes arrived")));
        }
        blocking(move || writer.commit()).await
    }

    fn check_length(&self, length: u64, part: &Part) -> Result<(), Error> {
        match part.size {
            Some(size) if size != length => {
                let message = format!("the origin sends {length} bytes where {size} were announced");
                Err(Error::new(ErrorKind::Protocol, message))
            }
            _ => self.check_length_so_far(length, part),
        }
    }

    fn check_length_so_far(&self, length: u64, part: &Part) -> Result<(), Error> {
        match part.size {
            Some(size) if length > size => {
                Err(Error::new(ErrorKind::Protocol, format!("the origin sends more than the {size} bytes announced")))
            }
            _ if length > self.max_module_bytes => Err(too_large(length, self.max_module_bytes)),
            _ => Ok(()),
        }
    }
}

fn too_large(size: u64, limit: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the module has at least {size} bytes; the limit is {limit}"))
        .hint("the operator sets `sources.maxModule`")
}

/// The module in the parts. `part` gives the bytes of one.
fn unpack(
    resolved: &Resolved,
    part: &mut dyn FnMut(usize) -> Result<Bytes, Error>,
    limits: unpack::Limits,
) -> Result<Module, Error> {
    let bytes = match &resolved.unpack {
        Unpack::File => unpack::file(part(0)?, limits),
        Unpack::Image { path } => unpack::image(resolved.parts.len(), part, path.as_deref(), limits),
    }?;
    if bytes.len() as u64 > limits.module {
        return Err(too_large(bytes.len() as u64, limits.module));
    }
    if let Some(expected) = &resolved.expected {
        let actual = expected.of_same_kind(&bytes);
        if actual != *expected {
            return Err(mismatch(expected, &actual).context("the module in it"));
        }
    }
    let package = Package { module: Digest::of(&bytes), defaults: resolved.defaults.clone() };
    Ok(Module { package: Arc::new(package), bytes })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(ErrorKind::Store, "writing to the store broke off").caused_by(error)))
}
