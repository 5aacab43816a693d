//! Putting objects: in one request where they are small, in parts where they are not.
//!
//! A body is held by its MD5, which is signed with the request, which buckets with locks ask for, and which all servers know; signing its SHA-256 too would take
//! longer than sending it. Parts are held by their CRC-32C where the server says that it looks at that: it costs next to nothing.
//! Every request has its whole body in memory, so that it can be sent again. Nobody sees an object before its last part is there, and what was begun and
//! is not finished is taken back.

use std::sync::Arc;

use aws_sdk_s3::types::CompletedPart;
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::encryption::{encrypted, with_key};
use super::errors::explain;
use super::memory_budget::MemoryPermit;
use super::multipart::Pending;
use super::parts::{Part, Parts};
use super::store::{S3Store, object};
use crate::{Body, Error, ErrorKind};

/// A part, and the largest object that is put at once. All parts have one size: some servers want that.
const PART_BYTES: u64 = 5 << 20;
/// The most parts that an object can have.
const MAX_PARTS: u64 = 10_000;
/// Parts of one object on their way at once.
const IN_FLIGHT: usize = 3;

/// A part, and its memory.
type PermittedPart = (Part, MemoryPermit);

impl S3Store {
    pub(super) async fn upload(&self, key: &str, body: Body) -> Result<(), Error> {
        let most = body
            .length
            .or(body.at_most)
            .unwrap_or(PART_BYTES * MAX_PARTS);
        let part_bytes = PART_BYTES.max(most.div_ceil(MAX_PARTS));
        let mut parts = Parts::new(
            body.stream,
            usize::try_from(part_bytes).unwrap_or(usize::MAX),
        );
        // Memory for both at once: two that have it for one would wait for each other.
        let mut permit = self.memory.acquire(most.min(2 * part_bytes)).await;
        let first = parts.next().await?.unwrap_or_default();
        match parts.next().await? {
            None => self.put_at_once(key, first).await,
            Some(second) => {
                let half = permit.split();
                self.put_in_parts(
                    key,
                    vec![(first, half), (second, permit)],
                    parts,
                    part_bytes,
                )
                .await
            }
        }
    }

    async fn put_at_once(&self, key: &str, whole: Part) -> Result<(), Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let md5 = whole.md5().await;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_md5(md5);
        let request = encrypted!(with_key!(request, customer), &self.encryption).body(whole.body());
        let sent = request.customize().disable_payload_signing().send().await;
        sent.map(drop).map_err(|error| explain(&object(key), error))
    }

    async fn put_in_parts(
        &self,
        key: &str,
        begun: Vec<PermittedPart>,
        rest: Parts,
        size: u64,
    ) -> Result<(), Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let (upload, mut pending) = Pending::begin(self, key, customer).await?;
        let memory = self.memory.clone();
        let rest = stream::try_unfold((rest, memory), move |(mut rest, memory)| async move {
            let permit = memory.acquire(size).await;
            Ok(rest
                .next()
                .await?
                .map(|part| ((part, permit), (rest, memory))))
        });
        let numbered = stream::iter(begun.into_iter().map(Ok))
            .chain(rest)
            .zip(stream::iter(1..));
        let sent = numbered
            .map(|(part, number)| {
                let upload = Arc::clone(&upload);
                // On its own, so that it goes on while the next is read.
                part.map(|(part, permit)| {
                    spawn(async move {
                        let _permit = permit;
                        upload.part(number, part).await
                    })
                })
            })
            .try_buffered(IN_FLIGHT)
            .try_collect::<Vec<CompletedPart>>();
        let done = match sent.await {
            Ok(parts) => upload.complete(parts).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => pending.forget(),
            Err(_) => pending.abort().await,
        }
        done
    }
}

/// The work on its own; it ends when nobody waits for it any more.
async fn spawn<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let done = AbortOnDropHandle::new(tokio::spawn(work)).await;
    done.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Local, "a part broke off; this is a defect").caused_by(error))
    })
}
