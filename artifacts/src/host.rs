//! What stores need of the program that they are in: Secrets, and ways to other machines.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A key of a Secret in the workflow's namespace (Kubernetes' `SecretKeySelector`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeySelector {
    /// The Secret's name.
    #[serde(default)]
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Whether it may be missing. Argo reads it all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// Whose certificates count, and who we are.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Certificate authorities in PEM, which then are the only ones.
    pub authority: Option<String>,
    /// A certificate and its key in PEM, for servers that ask who we are.
    pub identity: Option<SecretString>,
}

/// What the program gives to stores.
#[async_trait]
pub trait ArtifactHost: Debug + Send + Sync + 'static {
    /// The value of a key of a Secret in a namespace.
    async fn secret(
        &self,
        namespace: &str,
        secret: &SecretKeySelector,
    ) -> Result<SecretString, Error>;

    /// A way to machines that workflows name.
    fn http_client(&self, tls: &TlsSettings) -> Result<Arc<dyn HttpClient>, Error>;

    /// A way to the services of the machine's own cloud, which no workflow names: where its credentials are from.
    fn metadata_client(&self) -> Result<Arc<dyn HttpClient>, Error>;
}

/// Sends requests, where they may go.
#[async_trait]
pub trait HttpClient: Debug + Send + Sync + 'static {
    /// Sends one request, and follows nothing. [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the network fails.
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error>;
}
