//! The state that all calls of [`Sources`](crate::Sources) share: sources, store, caches and
//! limits.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use net::{Hosts, Http, SingleFlight};
use tokio::sync::Semaphore;

use crate::credentials::{CredentialProvider, Keyring};
use crate::download_limits::DownloadLimiter;
use crate::policy::Rules;
use crate::signatures::Signatures;
use crate::source::{Context, SharedProgress};
use crate::source_table::SourceTable;
use crate::store::Store;
use crate::{
    Config, Digest, Error, ErrorKind, FetchedModule, Package, Reference, Request, Requester,
    Resolved,
};

/// A resolved reference is removed from memory when it was not used for this time.
const REMEMBER: Duration = Duration::from_hours(6);
/// Maximum number of resolved references in memory.
const REMEMBERED: u64 = 10_000;
/// Content that must not be stored is in a file that a resolved reference holds. This many bytes of
/// such content weigh as much as one reference in the cache. So all these files together have at
/// most 640 MiB.
const EPHEMERAL_BYTES_PER_WEIGHT: u64 = 64 << 10;
/// Maximum number of modules that are unpacked at once. A caller with a permit does not wait for a
/// compiler or for the network.
const MODULES_UNPACKING: usize = 4;

/// The key of a resolved reference in memory.
///
/// The pull policy is not part of the key. Within one scope, a requester always gets the same
/// content for a reference, so that all steps of a workflow run the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ResolvedKey {
    pub(crate) scope: String,
    pub(crate) reference: Reference,
    pub(crate) requester: Requester,
}

/// The key of a download that several requests share.
///
/// The reference is part of the key, because two origins can have the same content. A failure of
/// one origin must not fail requests to the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FetchKey {
    pub(crate) reference: Reference,
    pub(crate) package: Digest,
    pub(crate) requester: Requester,
}

/// The shared state of [`Sources`](crate::Sources).
pub(crate) struct Inner {
    pub(crate) sources: SourceTable,
    pub(crate) rules: Rules,
    pub(crate) signatures: Signatures,
    pub(crate) credentials: Box<dyn CredentialProvider>,
    pub(crate) trusted_realms: Vec<String>,
    pub(crate) http: Http,
    pub(crate) store: Store,
    pub(crate) max_module_size: u64,
    pub(crate) progress: SharedProgress,
    pub(crate) resolved: Cache<ResolvedKey, Arc<Resolved>>,
    pub(crate) packages: Cache<Digest, Arc<Package>>,
    pub(crate) resolving: SingleFlight<Request, Result<Arc<Resolved>, Error>>,
    pub(crate) fetching: SingleFlight<FetchKey, Result<FetchedModule, Error>>,
    /// Limits the disk space of unfinished downloads: each may have the largest allowed size.
    pub(crate) downloads: DownloadLimiter,
    /// Limits the memory for unpacking: each module may have the largest allowed size.
    pub(crate) unpacking: Arc<Semaphore>,
}

/// Fails with [`ErrorKind::Unavailable`] if `work` takes longer than `limit`. Without the limit, a
/// very slow server would block all callers of a single flight.
pub(crate) async fn in_time<T>(
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

/// The weight of a resolved reference in the cache.
fn weight(resolved: &Resolved) -> u32 {
    if resolved.ephemeral.is_none() {
        return 1;
    }
    let bytes: u64 = resolved.parts.iter().filter_map(|part| part.size).sum();
    u32::try_from(1 + bytes / EPHEMERAL_BYTES_PER_WEIGHT).unwrap_or(u32::MAX)
}

impl Inner {
    /// Creates the shared state from the configuration.
    pub(crate) fn new(
        config: &Config,
        sources: SourceTable,
        store: Store,
        credentials: impl CredentialProvider,
        progress: SharedProgress,
    ) -> Result<Self, Error> {
        let hosts = Hosts::new(config.insecure.iter().cloned())
            .only(&config.policy.hosts, "`sources.policy.hosts`");
        Ok(Self {
            sources,
            rules: Rules::new(&config.policy, &config.namespaces),
            signatures: Signatures::new(&config.policy.signatures)?,
            credentials: Box::new(credentials),
            trusted_realms: config.trusted_realms.clone(),
            http: Http::new(&hosts, &config.ca)?,
            store,
            max_module_size: config.max_module_size,
            progress,
            resolved: Cache::builder()
                .weigher(|_, resolved: &Arc<Resolved>| weight(resolved))
                .max_capacity(REMEMBERED)
                .time_to_idle(REMEMBER)
                .build(),
            packages: Cache::new(10_000),
            resolving: SingleFlight::default(),
            fetching: SingleFlight::default(),
            downloads: DownloadLimiter::new(),
            unpacking: Arc::new(Semaphore::new(MODULES_UNPACKING)),
        })
    }

    /// The credentials of the requester. A local reference needs none.
    pub(crate) async fn keyrings(
        &self,
        reference: &Reference,
        requester: &Requester,
    ) -> Result<Vec<Keyring>, Error> {
        if self.sources.is_local(reference) {
            Ok(Vec::new())
        } else {
            self.credentials.keyrings(requester).await
        }
    }

    /// The context of one request to a source.
    pub(crate) fn context<'a>(&'a self, keyrings: &'a [Keyring]) -> Context<'a> {
        Context {
            http: &self.http,
            keyrings,
            trusted_realms: &self.trusted_realms,
            skip_mirrors: false,
        }
    }

    /// The last result for the reference, if all of its content is still in the store.
    pub(crate) async fn stored(
        &self,
        reference: &Reference,
        requester: &Requester,
    ) -> Option<Resolved> {
        let store = self.store.clone();
        let reference = reference.clone();
        let requester = requester.clone();
        let look = move || {
            let resolved = store
                .resolved(&reference, &requester)
                .filter(|resolved| store.offers_all(resolved, &requester.namespace))?;
            resolved.granted.set();
            store.touch(&resolved);
            Some(resolved)
        };
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    /// Whether the store has all parts, and the requester's namespace may use them.
    pub(crate) async fn offers_all(&self, resolved: &Resolved, requester: &Requester) -> bool {
        let store = self.store.clone();
        let resolved = resolved.clone();
        let namespace = requester.namespace.clone();
        tokio::task::spawn_blocking(move || store.offers_all(&resolved, &namespace))
            .await
            .unwrap_or(false)
    }

    /// The description of the module, from memory or from the store.
    pub(crate) async fn known(&self, resolved: &Resolved) -> Option<Arc<Package>> {
        let key = resolved.package_key();
        if let Some(package) = self.packages.get(&key).await {
            return Some(package);
        }
        let store = self.store.clone();
        let looked_up = key.clone();
        let package = tokio::task::spawn_blocking(move || store.package(&looked_up))
            .await
            .ok()??;
        let package = Arc::new(package);
        self.packages.insert(key, Arc::clone(&package)).await;
        Some(package)
    }

    /// Stores the result for later requests. A failure is only logged: the step has its content and
    /// can run.
    pub(crate) async fn remember(&self, resolved: &Resolved, requester: &Requester) {
        let store = self.store.clone();
        let resolved = resolved.clone();
        let requester = requester.clone();
        let remember = move || match resolved.caching.no_store {
            true => store.forget(&resolved.reference, &requester),
            false => store.remember(&resolved, &requester),
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(remember).await {
            tracing::warn!(%error, "the result of resolving cannot be stored");
        }
    }
}
