//! One upload in parts, from its beginning to its end or its abort.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use md5::{Digest, Md5};
use tokio_util::task::TaskTracker;

use super::encryption::{CustomerKey, Encryption, encrypted, with_key};
use super::errors::explain;
use super::parts::Part;
use super::store::{S3Store, object};
use crate::{Error, ErrorKind};

/// An upload that was begun.
pub(super) struct Multipart {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    held_by: HeldBy,
    customer: Option<CustomerKey>,
}

/// What the server holds a part to.
#[derive(Clone, Copy)]
enum HeldBy {
    Md5,
    Crc32c,
}

impl Multipart {
    async fn begin(
        client: Client,
        bucket: String,
        key: String,
        encryption: Encryption,
        customer: Option<CustomerKey>,
    ) -> Result<Self, Error> {
        let create = async |algorithm: Option<ChecksumAlgorithm>| {
            let request = client
                .create_multipart_upload()
                .bucket(&bucket)
                .key(&key)
                .set_checksum_algorithm(algorithm.clone());
            // Of the whole, so that whoever gets it in other parts can check it too.
            let request = request.set_checksum_type(algorithm.map(|_| ChecksumType::FullObject));
            encrypted!(with_key!(request, customer.clone()), &encryption)
                .send()
                .await
        };
        let created = match create(Some(ChecksumAlgorithm::Crc32C)).await {
            // Some do not let pass what they do not know.
            Err(error) if matches!(status(&error), 400 | 501) => create(None).await,
            created => created,
        };
        let created = created.map_err(|error| explain(&object(&key), error))?;
        let held_by = match created.checksum_algorithm {
            Some(ChecksumAlgorithm::Crc32C) => HeldBy::Crc32c,
            _ => HeldBy::Md5,
        };
        let id = created
            .upload_id
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the server begins no upload"))?;
        Ok(Self {
            client,
            bucket,
            key,
            id,
            held_by,
            customer,
        })
    }

    /// Sends a part. Numbers begin with 1.
    pub(super) async fn part(&self, number: i32, part: Part) -> Result<CompletedPart, Error> {
        let (md5, crc) = match self.held_by {
            HeldBy::Md5 => (Some(part.md5().await), None),
            HeldBy::Crc32c => (None, Some(part.crc32c())),
        };
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id);
        let request = request
            .part_number(number)
            .set_content_md5(md5)
            .set_checksum_crc32_c(crc.clone());
        let request = with_key!(request, self.customer.clone()).body(part.body());
        let sent = request.customize().disable_payload_signing().send().await;
        let sent = sent.map_err(|error| explain(&object(&self.key), error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32_c(crc)
            .build())
    }

    /// Makes the object of its parts.
    pub(super) async fn complete(&self, parts: Vec<CompletedPart>) -> Result<(), Error> {
        let e_tag = e_tag_of(&parts);
        let all = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id);
        match with_key!(request, self.customer.clone())
            .multipart_upload(all)
            .send()
            .await
        {
            Err(error) if !self.is_there(e_tag).await => Err(explain(&object(&self.key), error)),
            Err(_) => {
                // It may be there from an earlier attempt, and this one's parts too.
                self.abort().await;
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Whether the object has this tag: the upload was finished, and the answer was lost.
    async fn is_there(&self, e_tag: Option<String>) -> bool {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(&self.key);
        let there = with_key!(request, self.customer.clone())
            .send()
            .await
            .ok()
            .and_then(|there| there.e_tag);
        e_tag.is_some() && there.map(|there| there.trim_matches('"').to_owned()) == e_tag
    }

    async fn abort(&self) {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id);
        if let Err(error) = request.send().await {
            tracing::warn!(bucket = self.bucket, key = self.key, %error, "an upload that was begun stays in the store, unfinished");
        }
    }
}

/// Takes an upload back that is dropped unfinished, because nobody waits any more.
pub(super) struct Pending {
    upload: Option<Arc<Multipart>>,
    cleanup_tasks: TaskTracker,
}

impl Pending {
    /// Begins an upload. Where nobody waits for that any more, it is taken back as soon as it has begun.
    pub(super) async fn begin(
        store: &S3Store,
        key: &str,
        customer: Option<CustomerKey>,
    ) -> Result<(Arc<Multipart>, Self), Error> {
        let (client, encryption, cleanup_tasks) = (
            store.client.clone(),
            store.encryption.clone(),
            store.cleanup_tasks.clone(),
        );
        let beginning = Multipart::begin(
            client,
            store.bucket.clone(),
            key.to_owned(),
            encryption,
            customer,
        );
        let (hand_over, begun) = tokio::sync::oneshot::channel();
        store.cleanup_tasks.spawn(async move {
            let begun = beginning.await.map(|upload| Self {
                upload: Some(Arc::new(upload)),
                cleanup_tasks,
            });
            // Here and now: whoever waits for all that is left does not wait for what is begun by dropping.
            if let Err(Ok(mut pending)) = hand_over.send(begun) {
                pending.abort().await;
            }
        });
        let defect = |_| {
            Err(Error::new(
                ErrorKind::Local,
                "an upload was not begun; this is a defect",
            ))
        };
        let pending = begun.await.unwrap_or_else(defect)?;
        let upload = pending.upload.clone();
        let upload = upload.ok_or_else(|| {
            Error::new(ErrorKind::Local, "an upload is not there; this is a defect")
        })?;
        Ok((upload, pending))
    }

    /// It is finished.
    pub(super) fn forget(&mut self) {
        self.upload = None;
    }

    /// Takes it back now.
    pub(super) async fn abort(&mut self) {
        if let Some(upload) = self.upload.clone() {
            upload.abort().await;
            self.upload = None;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let (Some(upload), Ok(handle)) =
            (self.upload.take(), tokio::runtime::Handle::try_current())
        {
            self.cleanup_tasks
                .spawn_on(async move { upload.abort().await }, &handle);
        }
    }
}

/// The tag of an object of these parts, where they are tagged by their MD5: S3 makes it of those.
fn e_tag_of(parts: &[CompletedPart]) -> Option<String> {
    let mut all = Md5::new();
    for part in parts {
        all.update(
            hex::decode(part.e_tag()?.trim_matches('"'))
                .ok()
                .filter(|md5| md5.len() == 16)?,
        );
    }
    Some(format!("{}-{}", hex::encode(all.finalize()), parts.len()))
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> u16 {
    error
        .raw_response()
        .map_or(0, |response| response.status().as_u16())
}
