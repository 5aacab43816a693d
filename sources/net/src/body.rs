//! A response body as a stream.

use std::fmt;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::{Error, ErrorKind};

/// A body that is still being received. Its bytes are not verified. `E` is the error of the stream.
pub struct Body<E = Error> {
    /// The chunks in the order of arrival. The stream ends after the first error.
    pub stream: BoxStream<'static, Result<Bytes, E>>,
    /// The length in bytes that the server announced.
    pub length: Option<u64>,
}

impl Body {
    /// Reads the whole body. More than `limit` bytes are an error that names `what`.
    pub async fn bytes(mut self, limit: u64, what: &str) -> Result<Bytes, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.stream.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() as u64 > limit {
                let message = format!("{what} is larger than {limit} bytes");
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
        }
        Ok(bytes.into())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let length = Some(bytes.len() as u64);
        let stream = futures::stream::once(async move { Ok(bytes) }).boxed();
        Self { stream, length }
    }
}

impl<E> fmt::Debug for Body<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
