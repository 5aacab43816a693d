//! The store of a bucket.

use std::fmt;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::encryption::Encryption;
use super::errors::explain;
use super::listing::Pages;
use super::memory_budget::MemoryBudget;
use super::{CreateBucket, S3Location, Shared};
use crate::{ArtifactStore, Body, Content, Error, ErrorKind, Object};

/// A bucket as a store.
pub(crate) struct S3Store {
    pub(super) client: Client,
    pub(super) bucket: String,
    pub(super) encryption: Encryption,
    endpoint: String,
    region: String,
    create: Option<CreateBucket>,
    created: OnceCell<()>,
    /// Requests that abort multipart uploads of cancelled transfers.
    pub(super) cleanup_tasks: TaskTracker,
    pub(super) memory: MemoryBudget,
}

impl S3Store {
    pub(super) fn new(
        client: Client,
        location: &S3Location,
        region: &str,
        encryption: Encryption,
        shared: Shared,
    ) -> Self {
        let Shared {
            cleanup_tasks,
            memory,
        } = shared;
        Self {
            client,
            bucket: location.bucket.clone(),
            encryption,
            endpoint: location.endpoint.clone(),
            region: region.to_owned(),
            create: location.create_bucket_if_not_present,
            created: OnceCell::new(),
            cleanup_tasks,
            memory: memory.for_server(&location.endpoint),
        }
    }

    /// Creates the bucket once, if the location asks for it.
    pub(super) async fn ensure_bucket(&self) -> Result<(), Error> {
        let Some(create) = self.create else {
            return Ok(());
        };
        self.created
            .get_or_try_init(|| self.create_bucket(create))
            .await
            .map(drop)
    }

    async fn create_bucket(&self, create: CreateBucket) -> Result<(), Error> {
        let mut request = self.client.create_bucket().bucket(&self.bucket);
        if create.object_locking {
            request = request.object_lock_enabled_for_bucket(true);
        }
        // S3 refuses the default region as a location constraint.
        if self.region != "us-east-1" {
            let region = BucketLocationConstraint::from(self.region.as_str());
            request = request.create_bucket_configuration(
                CreateBucketConfiguration::builder()
                    .location_constraint(region)
                    .build(),
            );
        }
        match request.send().await {
            Ok(_) => self.encrypt_bucket().await,
            Err(error)
                if matches!(
                    error.code(),
                    Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(explain(
                &format!("creating the bucket `{}`", self.bucket),
                error,
            )),
        }
    }

    /// Sets the default encryption of a new bucket: other clients of the bucket then encrypt their
    /// objects too.
    async fn encrypt_bucket(&self) -> Result<(), Error> {
        let default = match &self.encryption {
            Encryption::Default | Encryption::Customer(_) => return Ok(()),
            Encryption::Server => ServerSideEncryptionByDefault::builder()
                .sse_algorithm(ServerSideEncryption::Aes256)
                .build(),
            Encryption::Kms { key, .. } => ServerSideEncryptionByDefault::builder()
                .sse_algorithm(ServerSideEncryption::AwsKms)
                .kms_master_key_id(key)
                .build(),
        };
        let incomplete = |error: aws_sdk_s3::error::BuildError| {
            Error::new(
                ErrorKind::InvalidConfig,
                "the encryption of the bucket is incomplete",
            )
            .caused_by(error)
        };
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default.map_err(incomplete)?)
            .build();
        let rules = ServerSideEncryptionConfiguration::builder()
            .rules(rule)
            .build()
            .map_err(incomplete)?;
        let request = self.client.put_bucket_encryption().bucket(&self.bucket);
        let sent = request
            .server_side_encryption_configuration(rules)
            .send()
            .await;
        sent.map(drop)
            .map_err(|error| explain(&format!("encrypting the bucket `{}`", self.bucket), error))
    }
}

/// An object in error messages.
pub(super) fn object(key: &str) -> String {
    format!("object `{key}`")
}

#[async_trait]
impl ArtifactStore for S3Store {
    async fn get(&self, key: &str) -> Result<Body, Error> {
        self.download(key).await
    }

    async fn put(&self, key: &str, content: &dyn Content) -> Result<(), Error> {
        self.ensure_bucket().await?;
        self.upload(key, content.open().await?).await
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Object, Error>>, Error> {
        let pages = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .into_paginator()
            .send();
        let what = format!("the list of objects below `{prefix}`");
        let start = (pages, what, Pages::default());
        let objects = stream::unfold(start, |(mut pages, what, mut checked)| async move {
            let page = pages.next().await?.map_err(|error| explain(&what, error));
            let page = page.and_then(|page| checked.check(&page, &what).map(|()| page));
            let objects: Vec<Result<Object, Error>> = match page {
                Err(error) => vec![Err(error)],
                Ok(page) => page
                    .contents
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|object| {
                        Some(Ok(Object {
                            key: object.key?,
                            size: size(object.size),
                        }))
                    })
                    .collect(),
            };
            Some((stream::iter(objects), (pages, what, checked)))
        });
        Ok(objects.flatten().boxed())
    }
}

fn size(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

impl fmt::Display for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket `{}` at `{}`", self.bucket, self.endpoint)
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
