//! Locations of artifacts, and the cache of open stores.

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

/// Time that a store stays open. A new store reads the Secrets with its credentials again.
const TIME_TO_LIVE: Duration = Duration::from_mins(1);
/// Highest number of open stores.
const MAX_OPEN: u64 = 1000;
/// Longest key of an object in S3, in bytes.
const LONGEST_KEY: usize = 1024;

/// A store of artifacts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Repository {
    /// A directory on the executor's own machine.
    Directory(DirectoryRepository),
    /// A bucket.
    S3(Box<S3Location>),
    /// A URL: a store of one object.
    Http(Box<HttpLocation>),
}

/// A directory that is used as a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectoryRepository {
    /// Path of the directory. The directory is created when the store is opened.
    pub path: PathBuf,
}

impl Repository {
    /// A directory on the executor's own machine.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Directory(DirectoryRepository { path: path.into() })
    }
}

/// Location of the content of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Store of the artifact.
    pub repository: Repository,
    /// Key of the object, or the prefix of the objects of a directory. Empty for a URL.
    pub key: String,
    /// Whether the store is the workflow's own repository. Other steps then find the artifact by
    /// its key alone.
    pub default: bool,
}

impl Location {
    /// Checks the key and the headers, without access to the store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for a key that is too long, or has a segment `.` or `..`, and
    /// for a header that a template must not set.
    pub fn check(&self) -> Result<(), Error> {
        if let Repository::Http(http) = &self.repository {
            http_store::check(http)?;
        }
        let message = if self.key.len() > LONGEST_KEY {
            format!("the key has more than {LONGEST_KEY} bytes")
        } else if self.key.split('/').any(|part| matches!(part, "." | "..")) {
            format!("the key `{}` has a segment `.` or `..`", self.key)
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidConfig, message))
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

/// Opens stores, and keeps them open for a minute. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    host: Arc<dyn ArtifactHost>,
    operator_bucket: Option<OperatorBucket>,
    open: Cache<StoreKey, Arc<dyn ArtifactStore>>,
    shared: s3::Shared,
    token_servers: http_store::TokenServers,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// Stores that use the Secrets and HTTP clients of `host`.
    ///
    /// The executor's own credentials are used for the workflows' own repositories and for
    /// `operator_bucket`. Other buckets need credentials in Secrets.
    pub fn new(host: Arc<dyn ArtifactHost>, operator_bucket: Option<OperatorBucket>) -> Self {
        let open = Cache::builder()
            .max_capacity(MAX_OPEN)
            .time_to_live(TIME_TO_LIVE)
            .build();
        Self {
            host,
            operator_bucket,
            open,
            shared: s3::Shared::new(),
            token_servers: http_store::TokenServers::new(),
        }
    }

    /// Starts a transfer as a task. Dropping the handle cancels the transfer.
    /// [`close`](Self::close) waits for the task.
    pub fn spawn_on<T: Send + 'static>(
        &self,
        transfer: impl Future<Output = T> + Send + 'static,
        handle: &Handle,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.shared.cleanup_tasks.spawn_on(transfer, handle))
    }

    /// Waits for the transfers, and until unfinished multipart uploads are aborted. Start no
    /// transfer after this call.
    pub async fn close(&self) {
        self.shared.cleanup_tasks.close();
        self.shared.cleanup_tasks.wait().await;
    }

    /// Opens the store of a location. Its credentials are Secrets of `namespace`.
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
        // The futures are large and seldom used, so they are boxed.
        let store: Arc<dyn ArtifactStore> = match repository {
            Repository::Directory(directory) => {
                Arc::new(DirectoryStore::open(&directory.path).await?)
            }
            Repository::S3(bucket) => {
                let shared = self.shared.clone();
                let opened = s3::open(bucket, namespace, own_credentials, &*self.host, shared);
                Arc::new(Box::pin(opened).await?)
            }
            Repository::Http(url) => {
                let token_servers = &self.token_servers;
                let opened = http_store::open(url, namespace, &*self.host, token_servers);
                Arc::new(Box::pin(opened).await?)
            }
        };
        self.open.insert(key, Arc::clone(&store)).await;
        Ok(store)
    }

    /// Whether the repository is the operator's bucket. With a role of the template, it is not.
    fn is_operators(&self, repository: &Repository) -> bool {
        let Repository::S3(bucket) = repository else {
            return false;
        };
        let is_same = |operators: &OperatorBucket| {
            operators.endpoint == bucket.endpoint && operators.bucket == bucket.bucket
        };
        bucket.role_arn.is_empty() && self.operator_bucket.as_ref().is_some_and(is_same)
    }
}
