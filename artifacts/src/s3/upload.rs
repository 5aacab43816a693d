//! Putting objects: in one request where they are small, in parts where they are not.
//!
//! A body is held by its MD5, which is signed with the request and which buckets with locks ask for; signing its SHA-256 too would take longer than sending it.
//! Every request has its whole body in memory, so that it can be sent again. Nobody sees an object before its last part is there, and what was begun and
//! is not finished is taken back.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, Fuse};
use futures::{StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use tokio_util::task::TaskTracker;

use super::encryption::{CustomerKey, Encryption, with_key};
use super::errors::explain;
use super::store::{S3Store, object};
use crate::{Body, Error, ErrorKind};

/// A part, and the largest object that is put at once. All parts have one size: some servers want that.
const PART_BYTES: u64 = 8 << 20;
/// The most parts that an object can have.
const MAX_PARTS: u64 = 10_000;
/// Parts of one object on their way at once.
const IN_FLIGHT: usize = 2;
/// More than that is no small object.
const LARGE: usize = 1 << 20;
/// Hashing more than that is not for a thread that others wait for.
const QUICK: usize = 256 << 10;

/// Adds to a request how the object is encrypted.
macro_rules! encrypted {
    ($request:expr, $encryption:expr) => {
        match $encryption {
            Encryption::Server => $request.server_side_encryption(ServerSideEncryption::Aes256),
            Encryption::Kms { key, context } => $request
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(key)
                .set_ssekms_encryption_context(context.clone()),
            Encryption::Default | Encryption::Customer(_) => $request,
        }
    };
}

impl S3Store {
    pub(super) async fn upload(&self, key: &str, body: Body) -> Result<(), Error> {
        let most = body.length.or(body.at_most).unwrap_or(PART_BYTES * MAX_PARTS);
        let part_bytes = PART_BYTES.max(most.div_ceil(MAX_PARTS));
        let mut parts = Parts::new(body.stream, usize::try_from(part_bytes).unwrap_or(usize::MAX));
        let first = parts.next().await?.unwrap_or_default();
        match parts.next().await? {
            None => self.put_at_once(key, first).await,
            Some(second) => self.put_in_parts(key, vec![first, second], parts).await,
        }
    }

    async fn put_at_once(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let md5 = md5(&bytes).await;
        let request = self.client.put_object().bucket(&self.bucket).key(key).content_md5(md5);
        let request = encrypted!(with_key!(request, customer), &self.encryption).body(ByteStream::from(bytes));
        let sent = request.customize().disable_payload_signing().send().await;
        sent.map(drop).map_err(|error| explain(&object(key), error))
    }

    async fn put_in_parts(&self, key: &str, begun: Vec<Bytes>, rest: Parts) -> Result<(), Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let request = encrypted!(with_key!(request, customer.clone()), &self.encryption);
        let created = request.send().await.map_err(|error| explain(&object(key), error))?;
        let id = created.upload_id.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the server begins no upload"))?;
        let mut pending = Pending {
            client: self.client.clone(),
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            id: Some(id.clone()),
            left: self.left.clone(),
        };
        let rest = stream::try_unfold(rest, |mut rest| async move { Ok(rest.next().await?.map(|part| (part, rest))) });
        let numbered = stream::iter(begun.into_iter().map(Ok)).chain(rest).zip(stream::iter(1..));
        let sent = numbered
            .map(|(part, number)| part.map(|part| self.put_part(key, &id, number, part, customer.clone())))
            .try_buffered(IN_FLIGHT)
            .try_collect::<Vec<CompletedPart>>();
        let parts = match sent.await {
            Ok(parts) => parts,
            Err(error) => {
                pending.abort().await;
                return Err(error);
            }
        };
        let e_tag = e_tag_of(&parts);
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(key).upload_id(&id);
        let completed = with_key!(request, customer.clone()).multipart_upload(all).send().await;
        match completed {
            Err(error) if !self.is_there(key, e_tag, customer).await => {
                pending.abort().await;
                Err(explain(&object(key), error))
            }
            _ => {
                pending.id = None;
                Ok(())
            }
        }
    }

    /// Whether an object has this tag: the upload was finished, and the answer was lost.
    async fn is_there(&self, key: &str, e_tag: Option<String>, customer: Option<CustomerKey>) -> bool {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let there = with_key!(request, customer).send().await.ok().and_then(|there| there.e_tag);
        e_tag.is_some() && there.map(|there| there.trim_matches('"').to_owned()) == e_tag
    }

    async fn put_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        bytes: Bytes,
        customer: Option<CustomerKey>,
    ) -> Result<CompletedPart, Error> {
        let md5 = md5(&bytes).await;
        let request = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id).part_number(number);
        let request = with_key!(request.content_md5(md5), customer).body(ByteStream::from(bytes));
        let sent = request.customize().disable_payload_signing().send().await;
        let sent = sent.map_err(|error| explain(&object(key), error))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
    }
}

/// The tag of an object of these parts, where they are tagged by their MD5: S3 makes it of those.
fn e_tag_of(parts: &[CompletedPart]) -> Option<String> {
    let mut all = Md5::new();
    for part in parts {
        all.update(hex::decode(part.e_tag()?.trim_matches('"')).ok().filter(|md5| md5.len() == 16)?);
    }
    Some(format!("{}-{}", hex::encode(all.finalize()), parts.len()))
}

async fn md5(bytes: &Bytes) -> String {
    let hash = |bytes: &[u8]| STANDARD.encode(Md5::digest(bytes));
    if bytes.len() <= QUICK {
        return hash(bytes);
    }
    let shared = bytes.clone();
    tokio::task::spawn_blocking(move || hash(&shared)).await.unwrap_or_else(|_| hash(bytes))
}

/// An upload that was begun. Dropped unfinished, because nobody waits any more, it is taken back too.
struct Pending {
    client: Client,
    bucket: String,
    key: String,
    id: Option<String>,
    left: TaskTracker,
}

impl Pending {
    async fn abort(&mut self) {
        let Some(id) = self.id.take() else { return };
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(id);
        if let Err(error) = request.send().await {
            tracing::warn!(bucket = self.bucket, key = self.key, %error, "an upload that was begun stays in the store, unfinished");
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.id.is_none() {
            return;
        }
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            let (client, bucket, key) = (self.client.clone(), self.bucket.clone(), self.key.clone());
            let left = self.left.clone();
            let mut pending = Self { client, bucket, key, id: self.id.take(), left: left.clone() };
            left.spawn_on(async move { pending.abort().await }, &handle);
        }
    }
}

/// A stream, in pieces of one size.
struct Parts {
    stream: Fuse<BoxStream<'static, Result<Bytes, Error>>>,
    size: usize,
    /// What came and did not fit.
    over: Bytes,
}

impl Parts {
    fn new(stream: BoxStream<'static, Result<Bytes, Error>>, size: usize) -> Self {
        Self { stream: stream.fuse(), size, over: Bytes::new() }
    }

    /// The next piece, full unless it is the last; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut part = BytesMut::new();
        while part.len() < self.size {
            if self.over.is_empty() {
                match self.stream.next().await.transpose()? {
                    Some(bytes) => self.over = bytes,
                    None => break,
                }
            }
            let fits = self.over.len().min(self.size - part.len());
            // What is large by now is taken for a whole piece: growing by halves would take half as much again.
            if part.len() >= LARGE && part.capacity() < self.size {
                part.reserve(self.size - part.len());
            }
            part.extend_from_slice(&self.over.split_to(fits));
        }
        Ok((!part.is_empty()).then(|| part.freeze()))
    }
}
