//! The client: reads one object at a time, with a timeout and without retries.
//!
//! The client of `kube` logs each answer that it cannot parse, and such an answer may be a Secret.
//! For this reason the client here takes the answer as text, and parses the text itself.

use std::env;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::Request;
use kube::{Client, Config};

use super::authority_file::AUTHORITY;
use super::error::{KubernetesError, ObjectName};
use super::kubeconfig;
use super::request::{ApiError, TIMEOUT, accepting, path};
use super::resource::{Resource, Stored};
use super::transport::{self, ApiServer};

/// Kubernetes stores no object over about 1.5 MB.
pub(super) const MAX_OBJECT_BYTES: u64 = 4 << 20;

/// Access to the API, as one user.
#[derive(Clone)]
pub struct Kubernetes {
    pub(super) client: Client,
    namespace: String,
    /// The proxy, without user and password, as errors show it.
    proxy: Option<String>,
    /// Name of the service accounts of the tenants.
    pub(super) tenant_account: Option<Arc<str>>,
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
            tenant_account: None,
        })
    }

    /// A client that reads objects of tenants with the tenants' rights: it acts as the service
    /// account with this name in the namespace of the object. The executor needs only the right to
    /// impersonate accounts of this name
    /// (<https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>).
    #[must_use]
    pub fn acting_for_tenants(mut self, account: &str) -> Self {
        self.tenant_account = Some(account.into());
        self
    }

    /// Whether the client reads objects of tenants with the tenants' rights.
    pub fn acts_for_tenants(&self) -> bool {
        self.tenant_account.is_some()
    }

    /// Namespace of the executor's own pod, or of the kubeconfig's context.
    pub fn own_namespace(&self) -> &str {
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
        match self.read(namespace, name).await {
            Ok(stored) => Ok(stored.object),
            Err(error) => Err(self.in_context::<T>(object, error)),
        }
    }

    /// Reads an object, with its size.
    pub async fn read<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Stored<T>, ApiError> {
        let mut request = accepting::<T>(Request::get(path::<T>(namespace, name)?), false);
        if let Some(account) = self.tenant::<T>() {
            let user = format!("system:serviceaccount:{namespace}:{account}");
            request = request.header("Impersonate-User", user);
        }
        let answer = self.send(request, Vec::new(), MAX_OBJECT_BYTES).await?;
        Ok(Stored::parse(&answer)?)
    }

    /// The end of an error about a connection.
    pub(super) fn via(&self) -> String {
        let proxy = self.proxy.as_ref();
        proxy.map_or_else(String::new, |proxy| format!(" through the proxy `{proxy}`"))
    }

    /// Name of the service account whose rights are used for objects of this kind.
    fn tenant<T: Resource>(&self) -> Option<&str> {
        self.tenant_account.as_deref().filter(|_| T::OF_TENANT)
    }

    /// The error of a request for an object.
    fn in_context<T: Resource>(&self, object: ObjectName, error: ApiError) -> KubernetesError {
        match error {
            ApiError::Refused { code: 404, .. } => KubernetesError::NotFound(object),
            ApiError::Refused {
                code: 401 | 403, ..
            } => match self.tenant::<T>() {
                Some(account) => KubernetesError::ForbiddenForTenant {
                    account: account.to_owned(),
                    object,
                },
                None => KubernetesError::Forbidden(object),
            },
            ApiError::Malformed(cause) => KubernetesError::Malformed { object, cause },
            error => KubernetesError::Unavailable {
                object,
                cause: error.to_string(),
            },
        }
    }
}
