//! Which store, and which key in it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ArtifactStore, DirectoryStore, Error};

/// A place that holds artifacts. Later kinds are added beside the first; each is one key in YAML.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Repository {
    /// A directory on this machine.
    Directory(DirectoryRepository),
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

    /// The store behind it.
    pub fn open(&self) -> Result<Arc<dyn ArtifactStore>, Error> {
        match self {
            Self::Directory(directory) => Ok(Arc::new(DirectoryStore::open(&directory.path)?)),
        }
    }
}

/// Where one artifact's content is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The store.
    pub repository: Repository,
    /// The object's key, or the prefix of a directory's objects.
    pub key: String,
}
