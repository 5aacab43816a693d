//! Encryption of objects in the store (server-side encryption).

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::{Error, ErrorKind};

/// Encryption of the objects of a bucket.
#[derive(Clone, Debug)]
pub(super) enum Encryption {
    /// The default of the bucket.
    Default,
    /// Keys of the server (SSE-S3).
    Server,
    /// A key of the key management service (SSE-KMS).
    Kms {
        key: String,
        /// Encryption context: a JSON object in base64.
        context: Option<String>,
    },
    /// A key for each object, which requests carry (SSE-C).
    Customer(CustomerKeys),
}

impl Encryption {
    /// Encryption with a key of the key management service.
    ///
    /// # Errors
    ///
    /// The context is not a JSON object.
    pub(super) fn kms(key: &str, context: &str) -> Result<Self, Error> {
        let context = match context {
            "" => None,
            context => {
                let object: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(context).map_err(|error| {
                        let message = "`kmsEncryptionContext` is not a JSON object";
                        Error::new(ErrorKind::InvalidConfig, message).caused_by(error)
                    })?;
                Some(STANDARD.encode(serde_json::Value::from(object).to_string()))
            }
        };
        Ok(Self::Kms {
            key: key.to_owned(),
            context,
        })
    }

    /// The key of an object; `None` if objects have no keys of their own.
    pub(super) async fn customer_key(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<CustomerKey>, Error> {
        match self {
            Self::Customer(keys) => keys.derive(bucket, key).await.map(Some),
            _ => Ok(None),
        }
    }
}

/// Adds the key of an object to a request, if the object has one.
macro_rules! with_key {
    ($request:expr, $customer:expr) => {{
        let mut request = $request;
        if let Some($crate::s3::encryption::CustomerKey { key, md5 }) = $customer {
            request = request
                .sse_customer_algorithm("AES256")
                .sse_customer_key(key)
                .sse_customer_key_md5(md5);
        }
        request
    }};
}
pub(super) use with_key;

/// Adds the encryption of a new object to a request.
macro_rules! encrypted {
    ($request:expr, $encryption:expr) => {
        match $encryption {
            $crate::s3::encryption::Encryption::Server => {
                $request.server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::Aes256)
            }
            $crate::s3::encryption::Encryption::Kms { key, context } => $request
                .server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms)
                .ssekms_key_id(key)
                .set_ssekms_encryption_context(context.clone()),
            $crate::s3::encryption::Encryption::Default
            | $crate::s3::encryption::Encryption::Customer(_) => $request,
        }
    };
}
pub(super) use encrypted;

/// Derives the keys of objects from a password.
#[derive(Clone, Debug)]
pub(super) struct CustomerKeys {
    password: SecretString,
    /// Allows one derivation at a time, because each needs 64 MiB of memory.
    derivation: Arc<Semaphore>,
}

/// Key of an object, as in the headers of requests.
#[derive(Clone)]
pub(super) struct CustomerKey {
    /// The key in base64.
    pub(super) key: String,
    /// MD5 of the key in base64.
    pub(super) md5: String,
}

impl CustomerKeys {
    pub(super) fn new(password: SecretString) -> Self {
        Self {
            password,
            derivation: Arc::new(Semaphore::new(1)),
        }
    }

    async fn derive(&self, bucket: &str, key: &str) -> Result<CustomerKey, Error> {
        let _permit = self.derivation.acquire().await;
        let password = self.password.clone();
        let salt = format!("{bucket}{key}");
        let derived =
            tokio::task::spawn_blocking(move || derive(password.expose_secret(), &salt)).await;
        let key = derived.unwrap_or_else(|error| {
            let message = "deriving an encryption key failed; this is a defect of this program";
            Err(Error::new(ErrorKind::Local, message).caused_by(error))
        })?;
        Ok(CustomerKey {
            key: STANDARD.encode(key),
            md5: STANDARD.encode(Md5::digest(key)),
        })
    }
}

/// Derives a key as Argo's S3 client does (minio-go, `encrypt.DefaultPBKDF`): Argon2id with one
/// pass over 64 MiB and four lanes. The salt is the name of the bucket followed by the key of the
/// object.
fn derive(password: &str, salt: &str) -> Result<[u8; 32], Error> {
    let failed = |error: argon2::Error| {
        let message =
            format!("cannot derive a key from `serverSideCustomerKeySecret` for `{salt}`: {error}");
        Error::new(ErrorKind::InvalidConfig, message)
    };
    let params = Params::new(64 << 10, 1, 4, Some(32)).map_err(failed)?;
    let mut key = [0; 32];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon
        .hash_password_into(password.as_bytes(), salt.as_bytes(), &mut key)
        .map_err(failed)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by a program in Go with `encrypt.DefaultPBKDF` of minio-go v7.0.100, which Argo
    /// 4.0.5 uses.
    #[tokio::test]
    async fn derived_keys_are_those_of_argo() {
        let keys = CustomerKeys::new("secret".into());
        let derived = keys.derive("bucket", "dir/key").await.unwrap();
        assert_eq!(derived.key, "+RylT+8624A/me94mxe/Wm+2XNWkxkMcPQ2/rPQJNgI=");
        assert_eq!(derived.md5, "tUUDyeAdTIOTn8Ci87qn2w==");
        assert_ne!(
            keys.derive("bucket", "dir/other").await.unwrap().key,
            derived.key
        );
        assert!(
            keys.derive("b", "k").await.is_err(),
            "a salt must have eight bytes"
        );
    }

    #[test]
    fn the_encryption_context_is_json_in_base64() {
        let Encryption::Kms { key, context } = Encryption::kms("id", r#"{"a": "b"}"#).unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (key.as_str(), context.as_deref()),
            ("id", Some("eyJhIjoiYiJ9"))
        );
        assert!(Encryption::kms("id", "a=b").is_err() && Encryption::kms("id", "[]").is_err());
    }
}
