//! One multipart upload, until it is completed or aborted.

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

/// A multipart upload in the store.
pub(super) struct Multipart {
    client: Client,
    bucket: String,
    key: String,
    /// Upload ID.
    id: String,
    checksum: PartChecksum,
    customer: Option<CustomerKey>,
}

/// Checksum that the server verifies a part against.
#[derive(Clone, Copy)]
enum PartChecksum {
    ContentMd5,
    Crc32c,
}

/// An object to upload.
struct Target {
    client: Client,
    bucket: String,
    key: String,
    encryption: Encryption,
    customer: Option<CustomerKey>,
}

impl Multipart {
    async fn begin(target: Target) -> Result<Self, Error> {
        let Target {
            client,
            bucket,
            key,
            encryption,
            customer,
        } = target;
        let create = async |algorithm: Option<ChecksumAlgorithm>| {
            // A checksum of the whole object can be verified by downloads with parts of any size.
            let checksum_type = algorithm.as_ref().map(|_| ChecksumType::FullObject);
            let request = client
                .create_multipart_upload()
                .bucket(&bucket)
                .key(&key)
                .set_checksum_algorithm(algorithm)
                .set_checksum_type(checksum_type);
            encrypted!(with_key!(request, customer.clone()), &encryption)
                .send()
                .await
        };
        let created = match create(Some(ChecksumAlgorithm::Crc32C)).await {
            // Some servers refuse headers that they do not know.
            Err(error) if matches!(status(&error), 400 | 501) => create(None).await,
            created => created,
        };
        let created = created.map_err(|error| explain(&object(&key), error))?;
        let checksum = match created.checksum_algorithm {
            Some(ChecksumAlgorithm::Crc32C) => PartChecksum::Crc32c,
            _ => PartChecksum::ContentMd5,
        };
        let id = created.upload_id.ok_or_else(|| {
            let message = "the server started a multipart upload without an upload ID";
            Error::new(ErrorKind::Unavailable, message)
        })?;
        Ok(Self {
            client,
            bucket,
            key,
            id,
            checksum,
            customer,
        })
    }

    /// Sends a part. The first part has the number 1.
    pub(super) async fn send_part(&self, number: i32, part: Part) -> Result<CompletedPart, Error> {
        let mut md5 = None;
        let mut crc32c = None;
        match self.checksum {
            PartChecksum::ContentMd5 => md5 = Some(part.md5().await),
            PartChecksum::Crc32c => crc32c = Some(part.crc32c()),
        }
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number)
            .set_content_md5(md5)
            .set_checksum_crc32_c(crc32c.clone());
        let request = with_key!(request, self.customer.clone()).body(part.body());
        let sent = request.customize().disable_payload_signing().send().await;
        let sent = sent.map_err(|error| explain(&object(&self.key), error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32_c(crc32c)
            .build())
    }

    /// Completes the upload: the parts become the object.
    ///
    /// If the response is lost, the SDK repeats the request, and the server answers that the upload
    /// does not exist. The ETag of the object then shows whether the first request was successful.
    pub(super) async fn complete(&self, parts: Vec<CompletedPart>) -> Result<(), Error> {
        let e_tag = multipart_e_tag(&parts);
        let upload = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(upload);
        let Err(error) = with_key!(request, self.customer.clone()).send().await else {
            return Ok(());
        };
        if !self.object_has(e_tag).await {
            return Err(explain(&object(&self.key), error));
        }
        // The same object may come from an earlier transfer. The parts of this one are then still
        // in the store.
        self.abort().await;
        Ok(())
    }

    /// Whether the object exists with this ETag.
    async fn object_has(&self, e_tag: Option<String>) -> bool {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(&self.key);
        let head = with_key!(request, self.customer.clone()).send().await.ok();
        let stored = head
            .and_then(|head| head.e_tag)
            .map(|e_tag| e_tag.trim_matches('"').to_owned());
        e_tag.is_some() && stored == e_tag
    }

    async fn abort(&self) {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id);
        if let Err(error) = request.send().await {
            tracing::warn!(
                bucket = self.bucket,
                key = self.key,
                %error,
                "cannot abort a multipart upload; its parts stay in the store"
            );
        }
    }
}

/// Aborts a multipart upload that is dropped before it is completed: the transfer was cancelled.
pub(super) struct Pending {
    upload: Arc<Multipart>,
    state: State,
    cleanup_tasks: TaskTracker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Completed or aborted.
    Ended,
}

impl Pending {
    /// Begins an upload. If the returned future is dropped meanwhile, a task aborts the upload as
    /// soon as it has begun.
    pub(super) async fn begin(
        store: &S3Store,
        key: &str,
        customer: Option<CustomerKey>,
    ) -> Result<Self, Error> {
        let beginning = Multipart::begin(Target {
            client: store.client.clone(),
            bucket: store.bucket.clone(),
            key: key.to_owned(),
            encryption: store.encryption.clone(),
            customer,
        });
        let cleanup_tasks = store.cleanup_tasks.clone();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        store.cleanup_tasks.spawn(async move {
            let begun = beginning.await.map(|upload| Self {
                upload: Arc::new(upload),
                state: State::Open,
                cleanup_tasks,
            });
            // Aborted in this task: a task that `drop` starts could come after the last wait for
            // the tasks.
            if let Err(Ok(mut pending)) = sender.send(begun) {
                pending.abort().await;
            }
        });
        receiver.await.unwrap_or_else(|error| {
            let message = "starting a multipart upload panicked; this is a defect of this program";
            Err(Error::new(ErrorKind::Local, message).caused_by(error))
        })
    }

    pub(super) fn upload(&self) -> &Arc<Multipart> {
        &self.upload
    }

    /// Marks the upload as completed.
    pub(super) fn completed(&mut self) {
        self.state = State::Ended;
    }

    /// Aborts the upload, and waits for the server.
    pub(super) async fn abort(&mut self) {
        if self.state == State::Open {
            self.upload.abort().await;
            self.state = State::Ended;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.state == State::Ended {
            return;
        }
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            let upload = Arc::clone(&self.upload);
            let abort = async move { upload.abort().await };
            self.cleanup_tasks.spawn_on(abort, &handle);
        }
    }
}

/// The ETag that S3 gives to an object of these parts: the MD5 of the MD5s of the parts, and the
/// number of parts. `None` if the ETags of the parts are not MD5s.
fn multipart_e_tag(parts: &[CompletedPart]) -> Option<String> {
    let mut all = Md5::new();
    for part in parts {
        let md5 = hex::decode(part.e_tag()?.trim_matches('"'))
            .ok()
            .filter(|md5| md5.len() == 16)?;
        all.update(md5);
    }
    Some(format!("{}-{}", hex::encode(all.finalize()), parts.len()))
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> u16 {
    error
        .raw_response()
        .map_or(0, |response| response.status().as_u16())
}
