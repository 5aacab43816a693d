//! What is sent in one request: all of it is in memory, so that it can be sent again, in the pieces in which it came.

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

/// Hashing more than that is not for a thread that others wait for.
const QUICK: usize = 256 << 10;

/// A part of an object, or a small one.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pieces: Vec<Bytes>,
    length: usize,
}

impl Part {
    /// As the body of a request.
    pub(super) fn body(self) -> ByteStream {
        ByteStream::new(SdkBody::retryable(move || {
            SdkBody::from_body_1_x(Pieces {
                left: self.length as u64,
                pieces: self.pieces.clone().into(),
            })
        }))
    }

    /// As S3 writes it: base64.
    pub(super) async fn md5(&self) -> String {
        let hash = |part: &Self| {
            let mut md5 = Md5::new();
            part.pieces.iter().for_each(|piece| md5.update(piece));
            STANDARD.encode(md5.finalize())
        };
        if self.length <= QUICK {
            return hash(self);
        }
        let shared = self.clone();
        tokio::task::spawn_blocking(move || hash(&shared))
            .await
            .unwrap_or_else(|_| hash(self))
    }

    /// As S3 writes it: big-endian, base64.
    pub(super) fn crc32c(&self) -> String {
        let mut crc = Crc::new(CrcAlgorithm::Crc32Iscsi);
        self.pieces.iter().for_each(|piece| crc.update(piece));
        STANDARD.encode(&crc.finalize().to_be_bytes()[4..])
    }
}

/// The pieces that are still to be sent.
struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.pieces.pop_front();
        self.left -= next.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A stream, in parts of one size.
pub(super) struct Parts {
    stream: Fuse<BoxStream<'static, Result<Bytes, Error>>>,
    size: usize,
    /// What came and did not fit.
    over: Bytes,
}

impl Parts {
    pub(super) fn new(stream: BoxStream<'static, Result<Bytes, Error>>, size: usize) -> Self {
        Self {
            stream: stream.fuse(),
            size,
            over: Bytes::new(),
        }
    }

    /// The next, full unless it is the last; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, Error> {
        let mut part = Part::default();
        while part.length < self.size {
            if self.over.is_empty() {
                match self.stream.next().await.transpose()? {
                    Some(bytes) => self.over = bytes,
                    None => break,
                }
            }
            let fits = self.over.len().min(self.size - part.length);
            if fits > 0 {
                part.pieces.push(self.over.split_to(fits));
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
    async fn parts_are_full_and_hashed_as_a_whole() {
        let pieces = ["1234", "", "5678", "9"].map(|piece| Ok(Bytes::from(piece)));
        let mut parts = Parts::new(stream::iter(pieces).boxed(), 9);
        let part = parts.next().await.unwrap().unwrap();
        // The check value of CRC-32C (`rfc3720`, appendix B.4, has others), and the MD5 of the same text.
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
