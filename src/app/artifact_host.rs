//! The host of the artifact stores: gives them Secrets of the workflow's namespace, and HTTP
//! clients.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use artifacts::{ArtifactHost, Error, ErrorKind, HttpClient, SecretKeySelector, TlsSettings};
use async_trait::async_trait;
use net::{Guarded, Hosts, Identity, Trust};
use secrecy::{ExposeSecret, SecretString};

use crate::config::NamespaceRules;
use crate::kubernetes::{Kubernetes, KubernetesError, Secret};

/// Longest wait for an answer. The time also runs while a part is sent, so it allows slow lines.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Gives artifact stores access to Secrets and to other machines.
#[derive(Debug)]
pub struct Host {
    kubernetes: Option<Kubernetes>,
    hosts: Hosts,
    rules: NamespaceRules,
    /// Certificate authorities in PEM, in addition to those of the system.
    authorities: Vec<String>,
    /// The trusted certificates of stores without a `caSecret`. The files of the system are read
    /// once.
    trust: OnceLock<Trust>,
}

impl Host {
    /// Makes a host. `kubernetes` is the access to the API, if any. `machine` lists the hosts that
    /// may be on this machine. `authorities` are certificate authorities in PEM. `rules` restrict
    /// the hosts of namespaces.
    pub fn new(
        kubernetes: Option<Kubernetes>,
        machine: impl IntoIterator<Item = String>,
        authorities: Vec<String>,
        rules: NamespaceRules,
    ) -> Self {
        // The author of a workflow may choose plain HTTP for a store, as in container steps.
        Self {
            kubernetes,
            hosts: Hosts::new(machine).in_plain_http(),
            authorities,
            rules,
            trust: OnceLock::new(),
        }
    }

    fn trust(&self) -> Result<Trust, Error> {
        if let Some(trust) = self.trust.get() {
            return Ok(trust.clone());
        }
        let trust = Trust::machine_and(&self.authorities, "`sources.ca`")?;
        Ok(self.trust.get_or_init(|| trust).clone())
    }
}

#[async_trait]
impl ArtifactHost for Host {
    async fn secret(
        &self,
        namespace: &str,
        secret: &SecretKeySelector,
    ) -> Result<SecretString, Error> {
        let SecretKeySelector { name, key, .. } = secret;
        let Some(kubernetes) = &self.kubernetes else {
            let message =
                format!("Secret `{name}` cannot be read: there is no access to the Kubernetes API");
            return Err(Error::new(ErrorKind::InvalidConfig, message).with_hint(
                "ask the operator to install the plugin with API access, or to configure a \
                 repository without Secrets and to set the credentials in the executor's \
                 environment",
            ));
        };
        let found = kubernetes
            .get::<Secret>(namespace, name)
            .await
            .map_err(unreadable)?;
        let value = found.get(key).map_err(|error| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("Secret `{name}` of namespace `{namespace}`: {error}"),
            )
        })?;
        let value = value.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("Secret `{name}` of namespace `{namespace}` has no key `{key}`"),
            )
        })?;
        let text = std::str::from_utf8(value).map_err(|_| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the key `{key}` of Secret `{name}` is not UTF-8"),
            )
        })?;
        Ok(text.into())
    }

    fn http_client(
        &self,
        namespace: &str,
        tls: &TlsSettings,
    ) -> Result<Arc<dyn HttpClient>, Error> {
        let trust = match &tls.authority {
            Some(pem) => Trust::only_pem(pem, "`caSecret`")?,
            None => self.trust()?,
        };
        let identity = tls.identity.as_ref().map(|pem| {
            Identity::from_pem(pem.expose_secret()).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "`clientCertSecret` and `clientKeySecret` are not a certificate and a key in PEM",
                )
            })
        });
        let hosts = self.rules.narrow(namespace, self.hosts.clone());
        let guarded = Guarded::new(hosts, builder, &trust, identity.transpose()?)?;
        Ok(Arc::new(GuardedClient(guarded)))
    }

    fn metadata_client(&self) -> Result<Arc<dyn HttpClient>, Error> {
        let client = self.trust()?.configure(builder().no_proxy(), None)?.build();
        let client = client.map_err(|error| {
            Error::new(ErrorKind::Local, "the HTTP client cannot be set up").caused_by(error)
        })?;
        Ok(Arc::new(MetadataClient(client)))
    }
}

fn builder() -> reqwest::ClientBuilder {
    net::client_builder().read_timeout(TIMEOUT)
}

fn unreadable(error: KubernetesError) -> Error {
    let kind = match &error {
        KubernetesError::Unavailable { .. } => ErrorKind::Unavailable,
        KubernetesError::Forbidden(_) | KubernetesError::ForbiddenForTenant { .. } => {
            ErrorKind::Forbidden
        }
        // Not `NotFound`: the Secret does not exist, and the artifact may.
        _ => ErrorKind::InvalidConfig,
    };
    Error::new(kind, error.to_string()).caused_by(error)
}

/// Client for the machines that workflows name. Addresses of this machine and of metadata services
/// are refused.
#[derive(Debug)]
struct GuardedClient(Guarded);

#[async_trait]
impl HttpClient for GuardedClient {
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        // A server that processes an upload may send almost nothing for a long time, so the minimum
        // rate is only for downloads.
        let downloads = request.method() == reqwest::Method::GET;
        let answer = self.0.execute(request).await.map_err(Error::from)?;
        Ok(match downloads {
            true => net::with_min_rate(answer, Error::from),
            false => answer,
        })
    }
}

/// Client for the service with this machine's cloud credentials. Most clouds have this service at a
/// link-local address, so the client has no guard.
#[derive(Debug)]
struct MetadataClient(reqwest::Client);

#[async_trait]
impl HttpClient for MetadataClient {
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        self.0.execute(request).await.map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "the metadata service with this machine's cloud credentials does not answer",
            )
            .caused_by(error)
        })
    }
}
