//! The interface of a store.

use std::fmt::{self, Debug, Display};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::Error;

/// The chunks of an object.
pub type ByteStream = BoxStream<'static, Result<Bytes, Error>>;

/// A store keeps objects under keys. [`Display`] names the store for users, without secrets.
///
/// Keys are keys of S3: any text. A slash is an ordinary character, except for callers of
/// [`list`](Self::list). A store that maps keys to files refuses keys that lead out of its root.
///
/// One store serves many transfers at the same time. Methods must not block the thread.
#[async_trait]
pub trait ArtifactStore: Debug + Display + Send + Sync + 'static {
    /// Starts to read an object.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the store has no object with exactly
    /// this key.
    async fn get(&self, key: &str) -> Result<Body, Error>;

    /// Writes an object. Readers see the old object, or none, until the new object is complete.
    async fn put(&self, key: &str, content: &dyn Content) -> Result<(), Error>;

    /// Lists the objects with keys that start with `prefix`, in any order. The stream is empty if
    /// there are none.
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Object, Error>>, Error>;
}

/// Content to upload. A store reads the content again if a server sends it to another address.
#[async_trait]
pub trait Content: Send + Sync {
    /// Starts to read the content from its beginning. An earlier reader stops.
    async fn open(&self) -> Result<Body, Error>;
}

/// One object of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Complete key of the object.
    pub key: String,
    /// Size of the object in bytes.
    pub size: u64,
}

/// Content of an object, while it is transferred.
pub struct Body {
    /// The bytes.
    pub stream: ByteStream,
    /// Number of bytes, if it is known beforehand.
    pub length: Option<u64>,
    /// Upper bound of the number of bytes, if it is known.
    pub at_most: Option<u64>,
    /// Whether the object has no content and marks a directory.
    pub marks_directory: bool,
    /// Whether the content was a gzipped tar archive for Argo, before a content coding of HTTP was
    /// undone. Many servers announce the gzip of a `.tgz` file as a coding, and Go's HTTP client
    /// undoes only some codings.
    pub was_tar_gz: bool,
}

impl Body {
    /// Content with an exact length, or with an unknown one.
    pub fn new(stream: ByteStream, length: Option<u64>) -> Self {
        Self {
            stream,
            length,
            at_most: None,
            marks_directory: false,
            was_tar_gz: false,
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

/// Bytes that are enough to detect an archive.
const HEAD_BYTES: usize = 64 << 10;

/// A stream with its first bytes.
pub(crate) struct Peeked {
    /// First bytes of the stream.
    pub(crate) head: Vec<u8>,
    /// The whole stream, with the first bytes.
    pub(crate) stream: ByteStream,
}

/// Reads the first bytes of a stream.
pub(crate) async fn peek(mut stream: ByteStream) -> Result<Peeked, Error> {
    let mut head = Vec::new();
    let mut chunks = Vec::new();
    while head.len() < HEAD_BYTES {
        let Some(chunk) = stream.next().await.transpose()? else {
            break;
        };
        head.extend_from_slice(&chunk);
        chunks.push(Ok(chunk));
    }
    let stream = stream::iter(chunks).chain(stream).boxed();
    Ok(Peeked { head, stream })
}
