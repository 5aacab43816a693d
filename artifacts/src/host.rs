//! The interface of the program that uses this crate: it supplies Secrets and HTTP clients.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A key of a Secret in the namespace of the workflow (`SecretKeySelector` in Kubernetes).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeySelector {
    /// Name of the Secret.
    #[serde(default)]
    pub name: String,
    /// Key in the Secret.
    pub key: String,
    /// Accepted because Argo accepts it, and ignored: the key must exist, as in Argo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// TLS settings of a connection: trusted certificate authorities and the client certificate.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Certificate authorities in PEM. They replace the authorities of the host.
    pub authority: Option<String>,
    /// Client certificate and its private key in PEM.
    pub identity: Option<SecretString>,
}

/// The program that uses this crate.
#[async_trait]
pub trait ArtifactHost: Debug + Send + Sync + 'static {
    /// Reads the value of a key of a Secret in a namespace.
    async fn secret(
        &self,
        namespace: &str,
        secret: &SecretKeySelector,
    ) -> Result<SecretString, Error>;

    /// Creates a client for servers that the workflows of a namespace name. The host decides which
    /// addresses the client may reach.
    fn http_client(&self, namespace: &str, tls: &TlsSettings)
    -> Result<Arc<dyn HttpClient>, Error>;

    /// Creates a client for the services that supply cloud credentials, such as metadata services.
    /// Workflows do not choose its addresses.
    fn metadata_client(&self) -> Result<Arc<dyn HttpClient>, Error>;
}

/// An HTTP client of the host.
#[async_trait]
pub trait HttpClient: Debug + Send + Sync + 'static {
    /// Sends one request. The client does not follow redirects.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the network fails. A response
    /// with an error status is not an error.
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error>;
}
