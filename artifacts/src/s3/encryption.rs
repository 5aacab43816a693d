//! How objects are encrypted where they are kept.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::{Error, ErrorKind};

/// What is asked of the server.
#[derive(Clone, Debug)]
pub(super) enum Encryption {
    /// What the bucket does by itself.
    Default,
    /// The server's own keys.
    Server,
    /// A key of the key management service.
    Kms {
        key: String,
        /// As the header has it.
        context: Option<String>,
    },
    /// A key for each object, which the server forgets.
    Customer(CustomerKeys),
}

impl Encryption {
    /// # Errors
    ///
    /// The context is not JSON.
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

    /// The key of an object, where it has one of its own.
    pub(super) async fn customer_key(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<CustomerKey>, Error> {
        match self {
            Self::Customer(keys) => keys.of(bucket, key).await.map(Some),
            _ => Ok(None),
        }
    }
}

/// Adds an object's own key to a request, where it has one.
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

/// Adds to a request how the object is encrypted.
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

/// What objects' keys are made from.
#[derive(Clone, Debug)]
pub(super) struct CustomerKeys {
    password: SecretString,
    /// Making one takes 64 MiB.
    one_at_a_time: Arc<Semaphore>,
}

/// An object's key, as headers have it.
#[derive(Clone)]
pub(super) struct CustomerKey {
    pub(super) key: String,
    pub(super) md5: String,
}

impl CustomerKeys {
    pub(super) fn new(password: SecretString) -> Self {
        Self {
            password,
            one_at_a_time: Arc::new(Semaphore::new(1)),
        }
    }

    async fn of(&self, bucket: &str, key: &str) -> Result<CustomerKey, Error> {
        let _turn = self.one_at_a_time.acquire().await;
        let (password, salt) = (self.password.clone(), format!("{bucket}{key}"));
        let made =
            tokio::task::spawn_blocking(move || derive(password.expose_secret(), &salt)).await;
        let key = made.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Local, "making a key broke off").caused_by(error))
        })?;
        Ok(CustomerKey {
            key: STANDARD.encode(key),
            md5: STANDARD.encode(Md5::digest(key)),
        })
    }
}

/// As Argo's S3 client does it (minio-go, `encrypt.DefaultPBKDF`): Argon2id in one pass over 64 MiB, four lanes. The bucket's name and the object's
/// key are the salt.
fn derive(password: &str, salt: &str) -> Result<[u8; 32], Error> {
    let impossible = |error: argon2::Error| {
        let message =
            format!("no key can be made of `serverSideCustomerKeySecret` for `{salt}`: {error}");
        Error::new(ErrorKind::InvalidConfig, message)
    };
    let params = Params::new(64 << 10, 1, 4, Some(32)).map_err(impossible)?;
    let mut key = [0; 32];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon
        .hash_password_into(password.as_bytes(), salt.as_bytes(), &mut key)
        .map_err(impossible)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by a program in Go with `encrypt.DefaultPBKDF` of minio-go v7.0.100, which Argo 4.0.5 uses.
    #[tokio::test]
    async fn keys_are_those_of_argo() {
        let keys = CustomerKeys::new("secret".into());
        let made = keys.of("bucket", "dir/key").await.unwrap();
        assert_eq!(made.key, "+RylT+8624A/me94mxe/Wm+2XNWkxkMcPQ2/rPQJNgI=");
        assert_eq!(made.md5, "tUUDyeAdTIOTn8Ci87qn2w==");
        assert_ne!(keys.of("bucket", "dir/other").await.unwrap().key, made.key);
        assert!(
            keys.of("b", "k").await.is_err(),
            "a salt must have eight bytes"
        );
    }

    #[test]
    fn the_context_is_json_in_base64() {
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
