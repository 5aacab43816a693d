//! The fields of a bucket in a template, or in the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, SecretKeySelector};

/// A bucket and the access to it. In an artifact it has a `key`; in a repository it has `keyFormat`
/// or `keyPrefix`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3Location {
    /// Server: `host` or `host:port`, without a scheme.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// Name of the bucket.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bucket: String,
    /// Region of the bucket.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Plain HTTP, if `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// Secret with the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_secret: Option<SecretKeySelector>,
    /// Secret with the secret key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_secret: Option<SecretKeySelector>,
    /// Secret with the session token, for temporary keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_secret: Option<SecretKeySelector>,
    /// Role to assume with the executor's own credentials, if no keys are named.
    #[serde(rename = "roleARN", skip_serializing_if = "String::is_empty")]
    pub role_arn: String,
    /// Use the executor's own credentials. They are also used if no keys are named.
    #[serde(rename = "useSDKCreds", skip_serializing_if = "std::ops::Not::not")]
    pub use_sdk_creds: bool,
    /// Create the bucket before the first output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_bucket_if_not_present: Option<CreateBucket>,
    /// Encryption of objects in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_options: Option<EncryptionOptions>,
    /// Secret with the only certificate authorities that are trusted for the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKeySelector>,
    /// Whether the bucket is in the host name or in the path of URLs. By default the endpoint
    /// decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing_style: Option<AddressingStyle>,
    /// Key of an artifact.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Format of the keys of a repository's artifacts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_format: String,
    /// Prefix of the keys of a repository's artifacts, if `keyFormat` is not set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_prefix: String,
}

/// `createBucketIfNotPresent`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CreateBucket {
    /// Whether the bucket supports object locks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub object_locking: bool,
}

/// `encryptionOptions`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EncryptionOptions {
    /// Whether objects are encrypted. If `false`, the other fields are ignored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_encryption: bool,
    /// Key of the key management service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kms_key_id: String,
    /// Encryption context of the key management service, as a JSON object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kms_encryption_context: String,
    /// Secret with the password that the key of each object is derived from.
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
    /// Whether the fields name an object, by Argo's rule (`S3Artifact.HasLocation`).
    pub fn has_location(&self) -> bool {
        !self.endpoint.is_empty() && !self.bucket.is_empty() && !self.key.is_empty()
    }

    /// Checks the names of the server, the bucket and the region.
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

    /// The bucket without keys.
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

/// A text of the user, shortened for an error message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
