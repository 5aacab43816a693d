//! Parts of an object, as bodies of requests.
//!
//! A part is held in memory, so that the SDK can repeat a request. It keeps the chunks of the
//! stream as they are, without a copy.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use futures::StreamExt;
use futures::stream::{BoxStream, Fuse};
use http_body::{Body, Frame, SizeHint};
use md5::{Digest, Md5};

use crate::Error;

/// Most bytes that are hashed on an async thread.
const SMALL_BYTES: usize = 256 << 10;

/// A part of an object, or a small object.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    chunks: Vec<Bytes>,
    length: usize,
}

impl Part {
    /// The body of a request. It can be sent several times.
    pub(super) fn body(self) -> ByteStream {
        ByteStream::new(SdkBody::retryable(move || {
            SdkBody::from_body_1_x(PartBody {
                remaining: self.length as u64,
                chunks: self.chunks.clone().into(),
            })
        }))
    }

    /// MD5 of the part in base64, for the header `Content-MD5`.
    pub(super) async fn md5(&self) -> String {
        let hash = |part: &Self| {
            let mut md5 = Md5::new();
            part.chunks.iter().for_each(|chunk| md5.update(chunk));
            STANDARD.encode(md5.finalize())
        };
        if self.length <= SMALL_BYTES {
            return hash(self);
        }
        let shared = self.clone();
        tokio::task::spawn_blocking(move || hash(&shared))
            .await
            .unwrap_or_else(|_| hash(self))
    }

    /// CRC-32C of the part: big-endian, in base64.
    pub(super) fn crc32c(&self) -> String {
        let mut crc = Crc::new(CrcAlgorithm::Crc32Iscsi);
        self.chunks.iter().for_each(|chunk| crc.update(chunk));
        STANDARD.encode(&crc.finalize().to_be_bytes()[4..])
    }
}

/// The chunks of a part that are still to be sent.
struct PartBody {
    chunks: VecDeque<Bytes>,
    /// Bytes of the chunks.
    remaining: u64,
}

impl Body for PartBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.chunks.pop_front();
        self.remaining -= next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Divides a stream into parts of the same size.
pub(super) struct Parts {
    stream: Fuse<BoxStream<'static, Result<Bytes, Error>>>,
    size: usize,
    /// Bytes of the last chunk that are not in a part yet.
    rest: Bytes,
}

impl Parts {
    pub(super) fn new(stream: BoxStream<'static, Result<Bytes, Error>>, size: usize) -> Self {
        Self {
            stream: stream.fuse(),
            size,
            rest: Bytes::new(),
        }
    }

    /// The next part; `None` at the end. Only the last part can be smaller.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, Error> {
        let mut part = Part::default();
        while part.length < self.size {
            if self.rest.is_empty() {
                match self.stream.next().await.transpose()? {
                    Some(bytes) => self.rest = bytes,
                    None => break,
                }
            }
            let fits = self.rest.len().min(self.size - part.length);
            if fits > 0 {
                part.chunks.push(self.rest.split_to(fits));
                part.length += fits;
            }
        }
        Ok((part.length > 0).then_some(part))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn parts_have_the_same_size_and_one_checksum() {
        let chunks = ["1234", "", "5678", "9"].map(|chunk| Ok(Bytes::from(chunk)));
        let mut parts = Parts::new(stream::iter(chunks).boxed(), 9);
        let part = parts.next().await.unwrap().unwrap();
        // The check value of CRC-32C in the CRC catalogue, and the MD5 of the same text.
        assert_eq!(
            part.crc32c(),
            STANDARD.encode(0xe306_9283_u32.to_be_bytes())
        );
        assert_eq!(
            part.md5().await,
            STANDARD.encode(hex::decode("25f9e794323b453885f5181f1b624d0b").unwrap())
        );
        assert_eq!(
            part.body().collect().await.unwrap().into_bytes(),
            "123456789"
        );
        assert!(parts.next().await.unwrap().is_none());
        let mut parts = Parts::new(stream::iter([Ok(Bytes::from("12345"))]).boxed(), 2);
        let mut lengths = Vec::new();
        while let Some(part) = parts.next().await.unwrap() {
            lengths.push(part.length);
        }
        assert_eq!(lengths, [2, 2, 1]);
    }
}
