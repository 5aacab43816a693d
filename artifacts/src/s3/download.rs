//! Downloads objects: a small object in one request, a large object in several parts at the same
//! time.
//!
//! The first request asks for the first part. Its response has the ETag and the size of the object.
//! Each further part must come from the same object: the request has `If-Match` with the ETag, and
//! the response must name the same ETag, the same size and the requested first byte. If the server
//! does not name them, the object is downloaded in one request.
//!
//! If the download of a part is interrupted, it continues after the last received byte. The first
//! part is streamed to the reader while it arrives, so its download does not continue: if it is
//! interrupted, the transfer fails and is repeated.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::types::ChecksumMode;
use backon::RetryableWithContext;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use super::checksum::Checksum;
use super::encryption::{CustomerKey, with_key};
use super::errors::explain;
use super::memory_budget::MemoryBudget;
use super::range::ContentRange;
use super::store::{S3Store, object};
use crate::retry::{REQUEST_ATTEMPTS, backoff};
use crate::store::ByteStream;
use crate::{Body, Error, ErrorKind};

const PART_BYTES: u64 = 4 << 20;
/// Parts of one object that are downloaded at the same time. They are held in memory.
const PARALLEL_PARTS: usize = 4;
/// A server may send less of a part than requested. A response with fewer bytes than this is
/// handled as interrupted.
const LEAST_BYTES: u64 = 64 << 10;
/// Media types of empty objects that mark directories: of s3fs, Swift and file managers.
const DIRECTORY_TYPES: [&str; 4] = [
    "application/x-directory",
    "application/directory",
    "httpd/unix-directory",
    "inode/directory",
];
/// Longest wait for the checksum of the object. The download does not need it.
const CHECKSUM_TIMEOUT: Duration = Duration::from_secs(5);

impl S3Store {
    pub(super) async fn download(&self, key: &str) -> Result<Body, Error> {
        let source = Arc::new(ObjectSource {
            client: self.client.clone(),
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            customer: self.encryption.customer_key(&self.bucket, key).await?,
        });
        let first = match source.request(Some(0..PART_BYTES), None).await {
            Err(error) if is_unsatisfiable(&error) => return source.in_one_request().await,
            response => response.map_err(|error| source.explain(error))?,
        };
        let length = content_length(&first);
        let Some(range) = first.content_range() else {
            // The server does not support ranges and sends the whole object. If the length is
            // `PART_BYTES`, the response may be a part whose `Content-Range` a proxy removed.
            return match length == Some(PART_BYTES) {
                true => source.in_one_request().await,
                false => Ok(whole(first)),
            };
        };
        let range = ContentRange::parse(range).filter(|range| range.start == 0);
        // A weak ETag does not identify the bytes of an object (RFC 9110, 8.8.1).
        let e_tag = first
            .e_tag()
            .filter(|tag| !tag.starts_with("W/"))
            .map(str::to_owned);
        match (range, e_tag) {
            (Some(range), _) if range.is_whole() => {
                Ok(Body::new(chunks(first), Some(range.object_size)))
            }
            (Some(range), Some(e_tag)) => {
                let checksum = source.checksum(&e_tag).await;
                let rest = source.rest(&range, e_tag, self.memory.clone());
                let stream = chunks(first).chain(rest).boxed();
                let stream = match checksum {
                    Some(checksum) => checksum.verify(stream),
                    None => stream,
                };
                Ok(Body::new(stream, Some(range.object_size)))
            }
            _ => source.in_one_request().await,
        }
    }
}

/// An object to download.
struct ObjectSource {
    client: Client,
    bucket: String,
    key: String,
    customer: Option<CustomerKey>,
}

/// A part of an object, while it is downloaded.
struct Part {
    start: u64,
    end: u64,
    object_size: u64,
    /// Bytes of the part that were received so far.
    bytes: BytesMut,
}

impl Part {
    /// First byte that is missing.
    fn next_byte(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn is_complete(&self) -> bool {
        self.next_byte() == self.end
    }
}

/// Reason why the download of a part stopped.
enum PartError {
    /// The download of the part was interrupted and can continue.
    BrokenOff(Error),
    /// The download of the part cannot continue.
    Failed(Error),
}

impl ObjectSource {
    /// Downloads the whole object in one request.
    async fn in_one_request(&self) -> Result<Body, Error> {
        let response = self
            .request(None, None)
            .await
            .map_err(|error| self.explain(error))?;
        Ok(whole(response))
    }

    /// The checksum of the whole object, if the server stores one. If the request fails, the
    /// download continues without a checksum.
    async fn checksum(&self, e_tag: &str) -> Option<Checksum> {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(&self.key)
            .if_match(e_tag)
            .checksum_mode(ChecksumMode::Enabled);
        let request = with_key!(request, self.customer.clone());
        let response = tokio::time::timeout(CHECKSUM_TIMEOUT, request.send()).await;
        let head = response.ok()?.ok()?;
        if head.e_tag() == Some(e_tag) {
            Checksum::of(&head)
        } else {
            None
        }
    }

    /// The parts after the first, in order.
    fn rest(
        self: Arc<Self>,
        first: &ContentRange,
        e_tag: String,
        memory: MemoryBudget,
    ) -> ByteStream {
        let begin = first.end;
        let object_size = first.object_size;
        let e_tag: Arc<str> = e_tag.into();
        let count = (object_size - begin).div_ceil(PART_BYTES);
        let starts = (0..count).map(move |number| begin + number * PART_BYTES);
        // Memory is acquired in the order of the parts. Otherwise later parts could take the memory
        // that the first needs.
        let permitted = stream::iter(starts).then(move |start| {
            let memory = memory.clone();
            async move { (start, memory.acquire(PART_BYTES).await) }
        });
        let parts = permitted.map(move |(start, permit)| {
            let source = Arc::clone(&self);
            let e_tag = Arc::clone(&e_tag);
            // A task of its own downloads the part while the reader is busy with another.
            AbortOnDropHandle::new(tokio::spawn(async move {
                let end = (start + PART_BYTES).min(object_size);
                let part = source.part(start, end, object_size, &e_tag).await;
                part.map(|bytes| (bytes, permit))
            }))
        });
        parts
            .buffered(PARALLEL_PARTS)
            .map(|part| part.unwrap_or_else(|error| Err(broken_off(error))))
            // The permit is released when the reader receives the part: the reader keeps only one
            // part at a time.
            .map_ok(|(bytes, _permit)| bytes)
            .boxed()
    }

    /// Downloads a part. If the download is interrupted, it continues.
    async fn part(
        &self,
        start: u64,
        end: u64,
        object_size: u64,
        e_tag: &str,
    ) -> Result<Bytes, Error> {
        let size = usize::try_from(end - start).unwrap_or_default();
        let part = Part {
            start,
            end,
            object_size,
            bytes: BytesMut::with_capacity(size),
        };
        let download = |mut part: Part| async move {
            let done = self.continue_part(&mut part, e_tag).await;
            (part, done)
        };
        let (part, done) = download
            .retry(backoff(REQUEST_ATTEMPTS))
            .context(part)
            .when(|error| matches!(error, PartError::BrokenOff(error) if error.retryable()))
            .notify(|_, delay| {
                tracing::debug!(
                    key = self.key,
                    delay_milliseconds = delay.as_millis(),
                    "the download of a part was interrupted and continues"
                );
            })
            .await;
        match done {
            Ok(()) => Ok(part.bytes.freeze()),
            Err(PartError::BrokenOff(error) | PartError::Failed(error)) => Err(error),
        }
    }

    /// Requests the missing bytes of a part, until the part is complete.
    async fn continue_part(&self, part: &mut Part, e_tag: &str) -> Result<(), PartError> {
        while !part.is_complete() {
            let next = part.next_byte();
            let response = self
                .request(Some(next..part.end), Some(e_tag.to_owned()))
                .await
                // The SDK has retried the request already.
                .map_err(|error| PartError::Failed(self.explain(error)))?;
            let range = response
                .content_range()
                .and_then(ContentRange::parse)
                .filter(|range| range.start == next && range.object_size == part.object_size)
                .filter(|_| response.e_tag() == Some(e_tag));
            let range = range.ok_or_else(|| {
                let message = format!("{} changed while it was read", object(&self.key));
                PartError::Failed(Error::new(ErrorKind::Unavailable, message))
            })?;
            receive(part, &range, chunks(response)).await?;
        }
        Ok(())
    }

    async fn request(
        &self,
        range: Option<Range<u64>>,
        e_tag: Option<String>,
    ) -> Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>> {
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(&self.key)
            .set_if_match(e_tag)
            .set_range(range);
        with_key!(request, self.customer.clone()).send().await
    }

    fn explain(&self, error: SdkError<GetObjectError, HttpResponse>) -> Error {
        explain(&object(&self.key), error)
    }
}

/// Adds the bytes of a response to a part. The response may end early if its `Content-Range` says
/// so.
async fn receive(
    part: &mut Part,
    range: &ContentRange,
    mut chunks: ByteStream,
) -> Result<(), PartError> {
    let unavailable = |message: &str| Error::new(ErrorKind::Unavailable, message);
    while let Some(chunk) = chunks.next().await {
        part.bytes
            .extend_from_slice(&chunk.map_err(PartError::BrokenOff)?);
        if part.next_byte() > part.end {
            let message = "the store sent more bytes than requested";
            return Err(PartError::Failed(unavailable(message)));
        }
    }
    let as_announced = part.next_byte() == range.end && range.end - range.start >= LEAST_BYTES;
    if part.is_complete() || as_announced {
        Ok(())
    } else {
        let message = "the store sent fewer bytes than requested";
        Err(PartError::BrokenOff(unavailable(message)))
    }
}

/// Whether the server refused the range (416). It refuses every range of an empty object.
fn is_unsatisfiable(error: &SdkError<GetObjectError, HttpResponse>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 416)
}

fn content_length(response: &GetObjectOutput) -> Option<u64> {
    response
        .content_length()
        .and_then(|length| u64::try_from(length).ok())
}

/// The content of a response with the whole object.
fn whole(response: GetObjectOutput) -> Body {
    let length = content_length(&response);
    let media_type = response.content_type().unwrap_or_default();
    let marks_directory = length == Some(0) && DIRECTORY_TYPES.contains(&media_type);
    Body {
        marks_directory,
        ..Body::new(chunks(response), length)
    }
}

fn chunks(response: GetObjectOutput) -> ByteStream {
    stream::try_unfold(response.body, |mut body| async move {
        let chunk = body.try_next().await.map_err(broken_off)?;
        Ok(chunk.map(|chunk| (chunk, body)))
    })
    .boxed()
}

fn broken_off(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::connection("the connection to the store was interrupted", cause)
}
