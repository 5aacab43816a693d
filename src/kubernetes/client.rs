//! The client: reads one object at a time, with a timeout and without retries.
//!
//! The client of `kube` logs each answer that it cannot parse, and such an answer may be a Secret.
//! For this reason the client here takes the answer as text, and parses the text itself.

use std::env;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures::AsyncReadExt;
use kube::{Client, Config};

use super::authority_file::AUTHORITY;
use super::error::{KubernetesError, ObjectName};
use super::kubeconfig;
use super::names::is_dns_subdomain;
use super::resource::Resource;
use super::transport::{self, ApiServer};

/// Kubernetes stores no object over about 1.5 MB.
const MAX_OBJECT_BYTES: u64 = 4 << 20;
/// Longest wait for a connection, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Access to the API, as one user.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    namespace: String,
    /// The proxy, without user and password, as errors show it.
    proxy: Option<String>,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Makes a client from a kubeconfig file. The file may name a login program, which is run. The
    /// server is reached through the proxy of the environment, or of the file.
    pub fn from_kubeconfig(file: &Path) -> Result<Self, KubernetesError> {
        Self::new(&kubeconfig::read(file)?)
    }

    /// Makes a client with the pod's service account. `None` outside a cluster, and in a pod
    /// without a token of a service account.
    pub fn in_cluster() -> Result<Option<Self>, KubernetesError> {
        if env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
            return Ok(None);
        }
        match Config::incluster() {
            Ok(config) => {
                let authority = AUTHORITY;
                Self::new(&ApiServer { config, authority }).map(Some)
            }
            Err(error) => {
                tracing::info!(%error, "no access to the Kubernetes API: Secrets and pull secrets are not read");
                Ok(None)
            }
        }
    }

    fn new(server: &ApiServer) -> Result<Self, KubernetesError> {
        let config = &server.config;
        let namespace = config.default_namespace.clone();
        let proxy = config.proxy_url.as_ref().map(|proxy| {
            let scheme = proxy.scheme_str().unwrap_or_default();
            let port = proxy
                .port()
                .map_or_else(String::new, |port| format!(":{port}"));
            format!("{scheme}://{}{port}", proxy.host().unwrap_or_default())
        });
        let client = transport::client(server, TIMEOUT)
            .map_err(|error| KubernetesError::Unusable(error.to_string()))?;
        Ok(Self {
            client,
            namespace,
            proxy,
        })
    }

    /// Namespace of the executor's own pod, or of the kubeconfig's context.
    pub(super) fn own_namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads an object.
    pub async fn get<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<T, KubernetesError> {
        let object = ObjectName {
            kind: T::KIND,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        // The client puts names into the path without escaping them.
        if !is_dns_subdomain(namespace) || !is_dns_subdomain(name) {
            return Err(KubernetesError::NotFound(object));
        }
        let path = format!("{}/namespaces/{namespace}/{}", T::API, T::PLURAL);
        let text = match tokio::time::timeout(TIMEOUT, self.text(path, name)).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return Err(self.classify(object, &error)),
            Err(_) => {
                let cause = format!("no answer within {TIMEOUT:?}{}", self.via());
                return Err(KubernetesError::Unavailable { object, cause });
            }
        };
        go_json::from_slice(&text).map_err(|cause| KubernetesError::Malformed { object, cause })
    }

    async fn text(&self, path: String, name: &str) -> kube::Result<Vec<u8>> {
        let request = kube::core::Request::new(path)
            .get(name, &kube::core::params::GetParams::default())
            .map_err(kube::Error::BuildRequest)?;
        let mut text = Vec::new();
        let body = std::pin::pin!(self.client.request_stream(request).await?);
        body.take(MAX_OBJECT_BYTES)
            .read_to_end(&mut text)
            .await
            .map_err(kube::Error::ReadEvents)?;
        Ok(text)
    }

    /// The end of an error about a connection.
    fn via(&self) -> String {
        let proxy = self.proxy.as_ref();
        proxy.map_or_else(String::new, |proxy| format!(" through the proxy `{proxy}`"))
    }

    fn classify(&self, object: ObjectName, error: &kube::Error) -> KubernetesError {
        match error {
            kube::Error::Api(status) if status.code == 404 => KubernetesError::NotFound(object),
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                KubernetesError::Forbidden(object)
            }
            error => KubernetesError::Unavailable {
                object,
                cause: format!("{}{}", with_cause(error), self.via()),
            },
        }
    }
}

/// The text of an error with its innermost cause, which says what happened to the connection.
fn with_cause(error: &kube::Error) -> String {
    let first: &(dyn std::error::Error + 'static) = error;
    let innermost = std::iter::successors(Some(first), |error| error.source()).last();
    let innermost = innermost.map_or_else(String::new, ToString::to_string);
    let text = error.to_string();
    match text.contains(&innermost) {
        true => text,
        false => format!("{text}: {innermost}"),
    }
}
