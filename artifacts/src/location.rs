//! Which store, and which key in it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::host::ArtifactHost;
use crate::http_store::{self, HttpLocation};
use crate::s3::{self, S3Location};
use crate::{ArtifactStore, DirectoryStore, Error, ErrorKind};

/// Credentials are read again after that.
const REMEMBER: Duration = Duration::from_mins(1);
const MOST: u64 = 1000;
/// S3's.
const LONGEST_KEY: usize = 1024;

/// A place that holds artifacts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Repository {
    /// A directory on this machine.
    Directory(DirectoryRepository),
    /// A bucket.
    S3(Box<S3Location>),
    /// A URL.
    Http(Box<HttpLocation>),
}

/// Where the directory is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectoryRepository {
    /// Its path. It is made when something is first written.
    pub path: PathBuf,
}

impl Repository {
    /// A directory on this machine.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Directory(DirectoryRepository { path: path.into() })
    }
}

/// Where one artifact's content is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The store.
    pub repository: Repository,
    /// The object's key, or the prefix of a directory's objects; empty where the store is one object.
    pub key: String,
    /// Whether the store is the workflow's own, so that a key is enough to find it again.
    pub default: bool,
}

impl Location {
    /// Whether an object can be there, as far as that shows before it is.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = if self.key.len() > LONGEST_KEY {
            format!("the key has more than {LONGEST_KEY} bytes")
        } else if self.key.split('/').any(|part| matches!(part, "." | "..")) {
            format!("the key `{}` has `.` or `..` between its slashes", self.key)
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidConfig, wrong))
    }
}

/// Bucket that the operator configured. The executor's own credentials may be used for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorBucket {
    /// `host` or `host:port` of the server.
    pub endpoint: String,
    /// Name of the bucket.
    pub bucket: String,
}

/// Key of the cache of open stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StoreKey {
    repository: Repository,
    /// Namespace of the Secrets with the store's credentials.
    namespace: String,
    /// Whether the store may use the executor's own credentials.
    own_credentials: bool,
}

/// Opens stores, and keeps them open for a while. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    host: Arc<dyn ArtifactHost>,
    /// The operator's endpoint and bucket.
    operator_bucket: Option<OperatorBucket>,
    open: Cache<StoreKey, Arc<dyn ArtifactStore>>,
    shared: s3::Shared,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// Stores with these host. The executor's own credentials are for workflows' own repositories and for the operator's bucket, `own`: endpoint and
    /// name.
    pub fn new(host: Arc<dyn ArtifactHost>, operator_bucket: Option<OperatorBucket>) -> Self {
        let open = Cache::builder()
            .max_capacity(MOST)
            .time_to_live(REMEMBER)
            .build();
        Self {
            host,
            operator_bucket,
            open,
            shared: s3::Shared::new(),
        }
    }

    /// Starts a transfer, which [`close`](Self::close) waits for.
    pub fn spawn_on<T: Send + 'static>(
        &self,
        transfer: impl Future<Output = T> + Send + 'static,
        handle: &Handle,
    ) -> AbortOnDropHandle<T> {
        // When nobody waits any more, the transfer ends too.
        AbortOnDropHandle::new(self.shared.cleanup_tasks.spawn_on(transfer, handle))
    }

    /// Waits until nothing half-done is left in any store that could be taken back. Nothing may be begun after this.
    pub async fn close(&self) {
        self.shared.cleanup_tasks.close();
        self.shared.cleanup_tasks.wait().await;
    }

    /// The store of a location, with the Secrets of a namespace.
    pub async fn open(
        &self,
        location: &Location,
        namespace: &str,
    ) -> Result<Arc<dyn ArtifactStore>, Error> {
        let repository = &location.repository;
        let own_credentials = location.default || self.is_operators(repository);
        let key = StoreKey {
            repository: repository.clone(),
            namespace: namespace.to_owned(),
            own_credentials,
        };
        if let Some(store) = self.open.get(&key).await {
            return Ok(store);
        }
        let store: Arc<dyn ArtifactStore> = match repository {
            Repository::Directory(directory) => Arc::new(DirectoryStore::open(&directory.path)?),
            // Boxed: what it takes to open one is much, and seldom.
            Repository::S3(bucket) => Arc::new(
                Box::pin(s3::open(
                    bucket,
                    namespace,
                    own_credentials,
                    &*self.host,
                    self.shared.clone(),
                ))
                .await?,
            ),
            Repository::Http(url) => {
                Arc::new(Box::pin(http_store::open(url, namespace, &*self.host)).await?)
            }
        };
        self.open.insert(key, Arc::clone(&store)).await;
        Ok(store)
    }

    fn is_operators(&self, repository: &Repository) -> bool {
        let Repository::S3(bucket) = repository else {
            return false;
        };
        // A role that a template names is not the operator's.
        let is_same = |operators: &OperatorBucket| {
            operators.endpoint == bucket.endpoint && operators.bucket == bucket.bucket
        };
        bucket.role_arn.is_empty() && self.operator_bucket.as_ref().is_some_and(is_same)
    }
}
