//! Uploads objects: a small object in one request, a large object as a multipart upload.
//!
//! A request with a whole object carries a signed Content-MD5: buckets with object locks require
//! it, and all servers support it. Also signing SHA-256 would take longer than sending. A part
//! carries a CRC-32C, which is cheaper, if the server confirms that it verifies CRC-32C; otherwise
//! a Content-MD5.
//!
//! The body of each request is held in memory, so that the SDK can repeat the request. Readers see
//! the object when the multipart upload is completed. An upload that fails or is cancelled is
//! aborted.

use std::sync::Arc;

use aws_sdk_s3::types::CompletedPart;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use super::encryption::{encrypted, with_key};
use super::errors::explain;
use super::memory_budget::MemoryPermit;
use super::multipart::Pending;
use super::parts::{Part, Parts};
use super::store::{S3Store, object};
use crate::{Body, Error, ErrorKind};

/// Size of a part, and of the largest object that is sent in one request. All parts but the last
/// have the same size, because some servers require it.
const PART_BYTES: u64 = 5 << 20;
/// Highest number of parts of an object in S3.
const MAX_PARTS: u64 = 10_000;
/// Parts of one object that are uploaded at the same time.
const PARALLEL_PARTS: usize = 3;

/// A part with the permit for its memory.
struct PermittedPart {
    part: Part,
    permit: MemoryPermit,
}

impl S3Store {
    pub(super) async fn upload(&self, key: &str, body: Body) -> Result<(), Error> {
        let at_most = body
            .length
            .or(body.at_most)
            .unwrap_or(PART_BYTES * MAX_PARTS);
        let part_bytes = PART_BYTES.max(at_most.div_ceil(MAX_PARTS));
        let size = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        let mut parts = Parts::new(body.stream, size);
        // One permit covers the first two parts. If uploads acquired two permits, two uploads could
        // block each other.
        let mut permit = self.memory.acquire(at_most.min(2 * part_bytes)).await;
        let first = parts.next().await?.unwrap_or_default();
        let Some(second) = parts.next().await? else {
            return self.put_object(key, first).await;
        };
        let begun = vec![
            PermittedPart {
                part: first,
                permit: permit.split(),
            },
            PermittedPart {
                part: second,
                permit,
            },
        ];
        self.put_parts(key, begun, parts, part_bytes).await
    }

    async fn put_object(&self, key: &str, content: Part) -> Result<(), Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let md5 = content.md5().await;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_md5(md5);
        let request = encrypted!(with_key!(request, customer), &self.encryption);
        let sent = request
            .body(content.body())
            .customize()
            .disable_payload_signing()
            .send()
            .await;
        sent.map(drop).map_err(|error| explain(&object(key), error))
    }

    async fn put_parts(
        &self,
        key: &str,
        begun: Vec<PermittedPart>,
        rest: Parts,
        part_bytes: u64,
    ) -> Result<(), Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let mut pending = Pending::begin(self, key, customer).await?;
        let memory = self.memory.clone();
        let rest = stream::try_unfold((rest, memory), move |(mut rest, memory)| async move {
            let permit = memory.acquire(part_bytes).await;
            let next = rest.next().await?;
            Ok(next.map(|part| (PermittedPart { part, permit }, (rest, memory))))
        });
        let numbered = stream::iter(begun.into_iter().map(Ok))
            .chain(rest)
            .zip(stream::iter(1..));
        let sent = numbered
            .map(|(part, number)| {
                let upload = Arc::clone(pending.upload());
                // A task of its own sends the part while the next part is read.
                part.map(|PermittedPart { part, permit }| {
                    spawn(async move {
                        let _permit = permit;
                        upload.send_part(number, part).await
                    })
                })
            })
            .try_buffered(PARALLEL_PARTS)
            .try_collect::<Vec<CompletedPart>>()
            .await;
        let done = match sent {
            Ok(parts) => pending.upload().complete(parts).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => pending.completed(),
            Err(_) => pending.abort().await,
        }
        done
    }
}

/// Runs a future as a task. Dropping the returned future cancels the task.
async fn spawn<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let done = AbortOnDropHandle::new(tokio::spawn(work)).await;
    done.unwrap_or_else(|error| {
        let message = "uploading a part panicked; this is a defect of this program";
        Err(Error::new(ErrorKind::Local, message).caused_by(error))
    })
}
