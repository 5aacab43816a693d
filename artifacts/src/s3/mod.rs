//! Artifacts in S3 and what speaks its protocol: the fields are those of Argo's `S3Bucket` (`pkg/apis/workflow/v1alpha1/workflow_types.go`), and mean
//! what they mean to Argo's own driver (`workflow/artifacts/s3/s3.go`).

mod checksum;
mod client;
mod download;
mod encryption;
mod endpoint;
mod errors;
mod memory_budget;
mod multipart;
mod parts;
mod sdk_http;
mod store;
mod upload;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use crate::{Error, ErrorKind, SecretKeySelector};

pub(crate) use client::open;

/// What the stores of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Transfers, and uploads that are taken back where nobody waits for that.
    pub(crate) cleanup_tasks: TaskTracker,
    memory: memory_budget::SharedMemory,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            cleanup_tasks: TaskTracker::new(),
            memory: memory_budget::SharedMemory::new(),
        }
    }
}

/// A bucket, and how to get there. In an artifact it has a `key`, in a repository `keyFormat` or `keyPrefix`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3Location {
    /// `host` or `host:port`, without a scheme.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The bucket's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bucket: String,
    /// The bucket's region.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Plain HTTP, if `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// The Secret with the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_secret: Option<SecretKeySelector>,
    /// The Secret with the secret key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_secret: Option<SecretKeySelector>,
    /// The Secret with the session token, where the keys have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_secret: Option<SecretKeySelector>,
    /// The role to take on with the executor's own credentials, where no keys are named.
    #[serde(rename = "roleARN", skip_serializing_if = "String::is_empty")]
    pub role_arn: String,
    /// The executor's own credentials. They are used too where nothing else is named.
    #[serde(rename = "useSDKCreds", skip_serializing_if = "std::ops::Not::not")]
    pub use_sdk_creds: bool,
    /// Makes the bucket before the first output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_bucket_if_not_present: Option<CreateBucket>,
    /// How objects are encrypted where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_options: Option<EncryptionOptions>,
    /// The Secret with the certificate authorities that count, and no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKeySelector>,
    /// Whether the bucket is in the host's name or in the path; the endpoint decides where neither is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing_style: Option<AddressingStyle>,
    /// An artifact's key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What keys of a repository's artifacts look like.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_format: String,
    /// What keys of a repository's artifacts begin with, where there is no `keyFormat`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_prefix: String,
}

/// `createBucketIfNotPresent`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CreateBucket {
    /// Whether objects in it can be locked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub object_locking: bool,
}

/// `encryptionOptions`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EncryptionOptions {
    /// Whether anything of this counts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_encryption: bool,
    /// The key in the key management service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kms_key_id: String,
    /// The service's encryption context, as JSON.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kms_encryption_context: String,
    /// The Secret with the text that each object's own key is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_side_customer_key_secret: Option<SecretKeySelector>,
}

/// `addressingStyle`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AddressingStyle {
    /// The endpoint decides.
    #[serde(rename = "")]
    Auto,
    /// `https://endpoint/bucket/key`
    #[serde(rename = "path")]
    Path,
    /// `https://bucket.endpoint/key`
    #[serde(rename = "virtual-hosted")]
    VirtualHosted,
}

impl S3Location {
    /// Whether everything is said that a location needs, as Argo decides it (`S3Artifact.HasLocation`).
    pub fn has_location(&self) -> bool {
        !self.endpoint.is_empty() && !self.bucket.is_empty() && !self.key.is_empty()
    }

    /// Whether the names can be those of a server, a bucket and a region.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self {
            endpoint,
            bucket,
            region,
            ..
        } = self;
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let is_name = |text: &str, more: &str| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if endpoint.is_empty() || bucket.is_empty() {
            return invalid("`s3` needs `endpoint` and `bucket`".to_owned());
        }
        if !is_name(endpoint, "-_.:[]") {
            return invalid(format!(
                "`endpoint` must be `host` or `host:port`, and not `{}`",
                shown(endpoint)
            ));
        }
        if !is_name(bucket, "-_.") {
            return invalid(format!("`{}` cannot be a bucket's name", shown(bucket)));
        }
        if !is_name(region, "-_") {
            return invalid(format!("`{}` cannot be a region", shown(region)));
        }
        Ok(())
    }

    /// The bucket alone.
    #[must_use]
    pub fn without_keys(&self) -> Self {
        Self {
            key: String::new(),
            key_format: String::new(),
            key_prefix: String::new(),
            ..self.clone()
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
