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
pub struct Trust {
    /// Certificate authorities in PEM, which then are the only ones.
    pub authority: Option<String>,
    /// A certificate and its key in PEM, for servers that ask who we are.
    pub identity: Option<SecretString>,
}

/// What the program gives to stores.
#[async_trait]
pub trait Surroundings: Debug + Send + Sync + 'static {
    /// The value of a key of a Secret in a namespace.
    async fn secret(
        &self,
        namespace: &str,
        secret: &SecretKeySelector,
    ) -> Result<SecretString, Error>;

    /// A way to machines that workflows name.
    fn web(&self, trust: &Trust) -> Result<Arc<dyn Web>, Error>;

    /// A way to the services of the machine's own cloud, which no workflow names: where its credentials are from.
    fn cloud(&self) -> Result<Arc<dyn Web>, Error>;
}

/// Sends requests, where they may go.
#[async_trait]
pub trait Web: Debug + Send + Sync + 'static {
    /// Sends one request, and follows nothing. [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the network fails.
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error>;
}
