//! Builds the client of a bucket.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::{
    Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use secrecy::ExposeSecret;

use super::Shared;
use super::credentials::Secrets;
use super::endpoint::{Amazon, amazon, is_virtual_hosted};
use super::location::{AddressingStyle, S3Location};
use super::sdk_http::SdkHttpClient;
use super::store::S3Store;
use crate::Error;
use crate::host::{ArtifactHost, TlsSettings};

/// Attempts of one request, by the SDK.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Region of requests if none is configured, and the server has none.
const DEFAULT_REGION: &str = "us-east-1";

/// Opens the store of a bucket. Its credentials are Secrets of `namespace`. `own_credentials`
/// allows the executor's own credentials.
pub(crate) async fn open(
    location: &S3Location,
    namespace: &str,
    own_credentials: bool,
    host: &dyn ArtifactHost,
    shared: Shared,
) -> Result<S3Store, Error> {
    location.check()?;
    let secrets = Secrets { namespace, host };
    let secure = location.insecure != Some(true);
    let authority = secrets.value(location.ca_secret.as_ref()).await?;
    let tls = TlsSettings {
        authority: authority
            .map(|pem| pem.expose_secret().to_owned())
            .filter(|_| secure),
        identity: None,
    };
    let http = host.http_client(namespace, &tls)?;
    let server = location
        .endpoint
        .rsplit_once(':')
        .map_or(location.endpoint.as_str(), |(server, _)| server);
    let amazon = amazon(server);
    let region = match (location.region.as_str(), amazon) {
        ("", Some(Amazon::Region(region))) => region,
        ("", _) => DEFAULT_REGION,
        (region, _) => region,
    };
    let virtual_hosted = match location.addressing_style {
        Some(AddressingStyle::Path) => false,
        Some(AddressingStyle::VirtualHosted) => true,
        Some(AddressingStyle::Auto) | None => is_virtual_hosted(server, &location.bucket, secure),
    };
    let credentials = secrets
        .credentials(location, region, own_credentials)
        .await?;
    let mut config = base_config(location)
        .http_client(SdkHttpClient(http))
        .region(Region::new(region.to_owned()))
        .force_path_style(!virtual_hosted)
        .credentials_provider(credentials);
    // The SDK knows the names of Amazon's servers in all regions.
    if amazon.is_none() || !secure {
        let scheme = if secure { "https" } else { "http" };
        config = config.endpoint_url(format!("{scheme}://{}", location.endpoint));
    }
    let encryption = secrets.encryption(location, secure).await?;
    let client = Client::from_conf(config.clone().build());
    if location.region.is_empty() && amazon == Some(Amazon::Global) {
        let region = region_of(&client, &location.bucket).await;
        let client = Client::from_conf(config.region(Region::new(region.clone())).build());
        return Ok(S3Store::new(client, location, &region, encryption, shared));
    }
    Ok(S3Store::new(client, location, region, encryption, shared))
}

fn base_config(location: &S3Location) -> Builder {
    // Each bucket has a retry budget of its own: failures of one bucket do not use up the retries
    // of others.
    let partition = format!("{}/{}", location.endpoint, location.bucket);
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_WAIT);
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .retry_partition(RetryPartition::new(partition))
        .retry_config(retries)
        // Requests carry a Content-MD5. Not every server understands other checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
        // The host's HTTP client limits slow responses itself.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// Asks Amazon for the region of a bucket. Without an answer it is the default region, as in Argo's
/// S3 client.
async fn region_of(client: &Client, bucket: &str) -> String {
    match client.get_bucket_location().bucket(bucket).send().await {
        Ok(answer) => match answer
            .location_constraint
            .map(|region| region.as_str().to_owned())
            .as_deref()
        {
            None | Some("") => DEFAULT_REGION.to_owned(),
            // Old name of this region.
            Some("EU") => "eu-west-1".to_owned(),
            Some(region) => region.to_owned(),
        },
        Err(error) => {
            tracing::info!(
                bucket,
                error = error.code(),
                "cannot get the region of the bucket; set `region`"
            );
            DEFAULT_REGION.to_owned()
        }
    }
}
