//! Credentials and encryption keys of a bucket.

use std::sync::Arc;

use aws_config::BehaviorVersion;
use aws_config::sts::AssumeRoleProvider;
use aws_sdk_s3::config::{Credentials, Region, SharedCredentialsProvider};
use secrecy::{ExposeSecret, SecretString};

use super::encryption::{CustomerKeys, Encryption};
use super::location::S3Location;
use super::sdk_http::SdkHttpClient;
use crate::host::{ArtifactHost, HttpClient};
use crate::{Error, ErrorKind, SecretKeySelector};

/// The Secrets of a namespace.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) namespace: &'a str,
    pub(super) host: &'a dyn ArtifactHost,
}

impl Secrets<'_> {
    /// The value of a Secret; `None` if no Secret is named.
    pub(super) async fn value(
        self,
        selector: Option<&SecretKeySelector>,
    ) -> Result<Option<SecretString>, Error> {
        match selector.filter(|selector| !selector.name.is_empty()) {
            Some(selector) => self.host.secret(self.namespace, selector).await.map(Some),
            None => Ok(None),
        }
    }

    /// The credentials of a bucket, in Argo's order: keys in Secrets, an assumed role, the
    /// executor's own credentials.
    pub(super) async fn credentials(
        self,
        location: &S3Location,
        region: &str,
        own_credentials: bool,
    ) -> Result<SharedCredentialsProvider, Error> {
        let access = self.value(location.access_key_secret.as_ref()).await?;
        let secret = self.value(location.secret_key_secret.as_ref()).await?;
        match (access, secret) {
            (Some(access), Some(secret)) => {
                let token = self.value(location.session_token_secret.as_ref()).await?;
                let trimmed = |text: &SecretString| text.expose_secret().trim().to_owned();
                let keys = Credentials::new(
                    trimmed(&access),
                    trimmed(&secret),
                    token.as_ref().map(trimmed),
                    None,
                    "Secret",
                );
                Ok(SharedCredentialsProvider::new(keys))
            }
            (None, None) if !own_credentials => {
                let message = "the bucket needs `accessKeySecret` and `secretKeySecret`: \
                               the executor uses its own credentials only for workflows' own \
                               repositories and for the bucket of `artifacts.repository`";
                Err(Error::new(ErrorKind::InvalidConfig, message))
            }
            (None, None) => {
                executor_credentials(&location.role_arn, region, self.host.metadata_client()?).await
            }
            (Some(_), None) | (None, Some(_)) => {
                let message =
                    "the bucket names only one of `accessKeySecret` and `secretKeySecret`";
                Err(Error::new(ErrorKind::InvalidConfig, message).with_hint("set both"))
            }
        }
    }

    /// The encryption of the objects of a bucket.
    pub(super) async fn encryption(
        self,
        location: &S3Location,
        secure: bool,
    ) -> Result<Encryption, Error> {
        let Some(options) = location
            .encryption_options
            .as_ref()
            .filter(|options| options.enable_encryption)
        else {
            return Ok(Encryption::Default);
        };
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidConfig, message));
        let password = self
            .value(options.server_side_customer_key_secret.as_ref())
            .await?;
        match (password, options.kms_key_id.as_str()) {
            (None, "") => Ok(Encryption::Server),
            (None, key) => Encryption::kms(key, &options.kms_encryption_context),
            (Some(_), key) if !key.is_empty() => {
                invalid("`serverSideCustomerKeySecret` and `kmsKeyId` cannot be set together")
            }
            (Some(_), _) if !secure => {
                invalid("`serverSideCustomerKeySecret` needs TLS, because requests carry the keys")
            }
            (Some(password), _) => Ok(Encryption::Customer(CustomerKeys::new(password))),
        }
    }
}

/// The executor's own credentials: from the environment, a web identity token, or a metadata
/// service. If a role is named, they are used to assume the role.
async fn executor_credentials(
    role: &str,
    region: &str,
    metadata: Arc<dyn HttpClient>,
) -> Result<SharedCredentialsProvider, Error> {
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .http_client(SdkHttpClient(metadata))
        .region(Region::new(region.to_owned()))
        .load()
        .await;
    if !role.is_empty() {
        let role = AssumeRoleProvider::builder(role)
            .session_name("wasm-workflow-executor")
            .configure(&sdk)
            .build()
            .await;
        return Ok(SharedCredentialsProvider::new(role));
    }
    sdk.credentials_provider().ok_or_else(|| {
        let message = "the executor has no credentials of its own";
        Error::new(ErrorKind::Forbidden, message)
    })
}
