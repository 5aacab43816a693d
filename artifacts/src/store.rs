//! What a store has to do.

use std::fmt::{self, Debug, Display};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::Error;

/// Keeps objects under keys. `Display` names the store for people: kind and place, no secrets.
///
/// Keys are S3's: any text, `/` has no meaning except to [`list`](ArtifactStore::list)'s callers. A store that maps keys
/// to files refuses keys that would leave its root.
#[async_trait]
pub trait ArtifactStore: Debug + Display + Send + Sync + 'static {
    /// The object's content. [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no object with this key,
    /// even if there are objects below it.
    async fn get(&self, key: &str) -> Result<Body, Error>;

    /// Writes an object; nobody sees it before it is whole.
    async fn put(&self, key: &str, body: Body) -> Result<(), Error>;

    /// Every object whose key starts with `prefix`, in no order. Nothing found is an empty stream.
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Object, Error>>, Error>;
}

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its whole key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Content on its way.
pub struct Body {
    /// The bytes.
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
    /// How many, where that is known beforehand.
    pub length: Option<u64>,
    /// How many there are at most, where that is known.
    pub at_most: Option<u64>,
}

impl Body {
    /// Content of a length that is known, or not.
    pub fn new(stream: BoxStream<'static, Result<Bytes, Error>>, length: Option<u64>) -> Self {
        Self {
            stream,
            length,
            at_most: None,
        }
    }
}

impl Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
