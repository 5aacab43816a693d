//! From what a workflow or an operator says of a bucket, to a client for it.

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::sts::AssumeRoleProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::{
    Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use secrecy::{ExposeSecret, SecretString};

use super::encryption::{CustomerKeys, Encryption};
use super::endpoint::{Amazon, amazon, is_virtual_hosted};
use super::sdk_http::SdkHttpClient;
use super::store::S3Store;
use super::{AddressingStyle, S3Location, Shared};
use crate::host::{ArtifactHost, HttpClient, TlsSettings};
use crate::{Error, ErrorKind, SecretKeySelector};

const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Where nobody names a region, and the server has none.
const NO_REGION: &str = "us-east-1";

/// A store for the bucket, with the Secrets of a namespace; and with the executor's own credentials, if it may have those.
pub(crate) async fn open(
    location: &S3Location,
    namespace: &str,
    own: bool,
    host: &dyn ArtifactHost,
    shared: Shared,
) -> Result<S3Store, Error> {
    location.check()?;
    let read = Secrets { namespace, host };
    let authority = read
        .value(location.ca_secret.as_ref())
        .await?
        .map(|pem| pem.expose_secret().to_owned());
    let secure = location.insecure != Some(true);
    let authority = authority.filter(|_| secure);
    let http = host.http_client(&TlsSettings {
        authority,
        identity: None,
    })?;
    let server = location
        .endpoint
        .rsplit_once(':')
        .map_or(location.endpoint.as_str(), |(server, _)| server);
    let amazon = amazon(server);
    let region = match (location.region.as_str(), amazon) {
        ("", Some(Amazon::Region(region))) => region,
        ("", _) => NO_REGION,
        (region, _) => region,
    };
    let virtual_hosted = match location.addressing_style {
        Some(AddressingStyle::Path) => false,
        Some(AddressingStyle::VirtualHosted) => true,
        Some(AddressingStyle::Auto) | None => is_virtual_hosted(server, &location.bucket, secure),
    };
    let credentials = credentials(location, region, own, &read).await?;
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(SdkHttpClient(http))
        .region(Region::new(region.to_owned()))
        .force_path_style(!virtual_hosted)
        .credentials_provider(credentials)
        // A store that fails takes no patience from others.
        .retry_partition(RetryPartition::new(format!(
            "{}/{}",
            location.endpoint, location.bucket
        )))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(FIRST_WAIT),
        )
        // Bodies are sent with their MD5; other checksums are not understood everywhere.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
        // The program's own client looks after that.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    // Amazon's client knows the names of Amazon's servers in all regions.
    if amazon.is_none() || !secure {
        let scheme = if secure { "https" } else { "http" };
        config = config.endpoint_url(format!("{scheme}://{}", location.endpoint));
    }
    let encryption = encryption(location, secure, &read).await?;
    let client = Client::from_conf(config.clone().build());
    if location.region.is_empty() && amazon == Some(Amazon::Global) {
        let region = region_of(&client, &location.bucket).await;
        let client = Client::from_conf(config.region(Region::new(region.clone())).build());
        return Ok(S3Store::new(client, location, &region, encryption, shared));
    }
    Ok(S3Store::new(client, location, region, encryption, shared))
}

/// Where Amazon keeps the bucket; where that is not said, the first region, as Argo's client has it.
async fn region_of(client: &Client, bucket: &str) -> String {
    match client.get_bucket_location().bucket(bucket).send().await {
        Ok(answer) => match answer
            .location_constraint
            .map(|place| place.as_str().to_owned())
            .as_deref()
        {
            None | Some("") => NO_REGION.to_owned(),
            // Its name before there were names for regions.
            Some("EU") => "eu-west-1".to_owned(),
            Some(region) => region.to_owned(),
        },
        Err(error) => {
            tracing::info!(
                bucket,
                error = error.code(),
                "the bucket's region is not said; set `region`"
            );
            NO_REGION.to_owned()
        }
    }
}

/// Reads Secrets of a namespace.
struct Secrets<'a> {
    namespace: &'a str,
    host: &'a dyn ArtifactHost,
}

impl Secrets<'_> {
    async fn value(
        &self,
        selector: Option<&SecretKeySelector>,
    ) -> Result<Option<SecretString>, Error> {
        match selector.filter(|selector| !selector.name.is_empty()) {
            Some(selector) => self.host.secret(self.namespace, selector).await.map(Some),
            None => Ok(None),
        }
    }
}

/// In Argo's order: keys, a role, what the machine has.
async fn credentials(
    location: &S3Location,
    region: &str,
    own: bool,
    read: &Secrets<'_>,
) -> Result<SharedCredentialsProvider, Error> {
    let access = read.value(location.access_key_secret.as_ref()).await?;
    let secret = read.value(location.secret_key_secret.as_ref()).await?;
    match (access, secret) {
        (Some(access), Some(secret)) => {
            let token = read.value(location.session_token_secret.as_ref()).await?;
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
        (None, None) if !own => {
            let message = "the bucket names no keys, `accessKeySecret` and `secretKeySecret`: the executor's own credentials are for \
                           workflows' own repositories and for the operator's bucket";
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
        (None, None) => {
            own_credentials(&location.role_arn, region, read.host.metadata_client()?).await
        }
        (Some(_), None) | (None, Some(_)) => {
            let message =
                "`accessKeySecret` and `secretKeySecret` belong together: one of them is missing";
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
    }
}

/// The environment's, a web identity's, the container's or the machine's; or a role's that those may take on.
async fn own_credentials(
    role: &str,
    region: &str,
    cloud: Arc<dyn HttpClient>,
) -> Result<SharedCredentialsProvider, Error> {
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .http_client(SdkHttpClient(cloud))
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
        Error::new(
            ErrorKind::Forbidden,
            "this machine has no credentials of its own",
        )
    })
}

async fn encryption(
    location: &S3Location,
    secure: bool,
    read: &Secrets<'_>,
) -> Result<Encryption, Error> {
    let Some(options) = location
        .encryption_options
        .as_ref()
        .filter(|options| options.enable_encryption)
    else {
        return Ok(Encryption::Default);
    };
    let password = read
        .value(options.server_side_customer_key_secret.as_ref())
        .await?;
    match (password, options.kms_key_id.as_str()) {
        (None, "") => Ok(Encryption::Server),
        (None, key) => Encryption::kms(key, &options.kms_encryption_context),
        (Some(_), key) if !key.is_empty() => {
            let message = "`serverSideCustomerKeySecret` and `kmsKeyId` cannot be set together";
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
        (Some(_), _) if !secure => Err(Error::new(
            ErrorKind::InvalidConfig,
            "`serverSideCustomerKeySecret` needs TLS: it sends keys",
        )),
        (Some(password), _) => Ok(Encryption::Customer(CustomerKeys::new(password))),
    }
}
