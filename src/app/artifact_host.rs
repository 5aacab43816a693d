//! What artifact stores need of this program: Secrets of the workflow's namespace, and guarded ways to other machines.

use std::sync::Arc;
use std::time::Duration;

use artifacts::{ArtifactHost, Error, ErrorKind, HttpClient, SecretKeySelector, TlsSettings};
use async_trait::async_trait;
use net::{Guarded, Hosts};
use secrecy::{ExposeSecret, SecretString};

use crate::kubernetes::{Kubernetes, KubernetesError, Secret};

/// The longest wait for an answer. It runs while a part is being sent too, on however slow a line.
const TIMEOUT: Duration = Duration::from_mins(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// This process's.
#[derive(Debug)]
pub struct Surroundings {
    kubernetes: Option<Kubernetes>,
    hosts: Hosts,
    /// Certificate authorities in PEM, besides the machine's own.
    authorities: Vec<String>,
}

impl Surroundings {
    /// With access to the Kubernetes API, if there is any. `machine` lists hosts that may be on this machine.
    pub fn new(
        kubernetes: Option<Kubernetes>,
        machine: impl IntoIterator<Item = String>,
        authorities: Vec<String>,
    ) -> Self {
        // Whoever writes a workflow decides whether a store is spoken to in plain HTTP, as in container steps.
        Self {
            kubernetes,
            hosts: Hosts::new(machine).in_plain_http(),
            authorities,
        }
    }
}

#[async_trait]
impl ArtifactHost for Surroundings {
    async fn secret(
        &self,
        namespace: &str,
        secret: &SecretKeySelector,
    ) -> Result<SecretString, Error> {
        let SecretKeySelector { name, key, .. } = secret;
        let Some(kubernetes) = &self.kubernetes else {
            let message = format!(
                "Secret `{name}` cannot be read: there is no access to the Kubernetes API; the operator gives the plugin a service \
                 account, or a repository without Secrets and credentials in the environment"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        };
        let found = kubernetes
            .get::<Secret>(namespace, name)
            .await
            .map_err(unreadable)?;
        let value = found.get(key).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("Secret `{name}` of namespace `{namespace}` has no key `{key}`"),
            )
        })?;
        let text = std::str::from_utf8(value).map_err(|_| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the key `{key}` of Secret `{name}` is not a text"),
            )
        })?;
        Ok(text.into())
    }

    fn http_client(&self, tls: &TlsSettings) -> Result<Arc<dyn HttpClient>, Error> {
        let builder = builder();
        let builder = if let Some(pem) = &tls.authority {
            builder.tls_certs_only(certificates(pem)?)
        } else {
            let own = self
                .authorities
                .iter()
                .map(|pem| certificates(pem))
                .collect::<Result<Vec<_>, _>>()?;
            builder.tls_certs_merge(own.into_iter().flatten())
        };
        let builder = match &tls.identity {
            Some(pem) => {
                builder.identity(reqwest::Identity::from_pem(pem.expose_secret().as_bytes()).map_err(|_| {
                    Error::new(
                        ErrorKind::InvalidConfig,
                        "`clientCertSecret` and `clientKeySecret` are no certificate and key in PEM",
                    )
                })?)
            }
            None => builder,
        };
        Guarded::new(self.hosts.clone(), builder)
            .map(way)
            .map_err(refused)
    }

    fn metadata_client(&self) -> Result<Arc<dyn HttpClient>, Error> {
        let client = builder().no_proxy().build();
        let client = client.map_err(|error| {
            Error::new(ErrorKind::Local, "the HTTP client cannot be set up").caused_by(error)
        })?;
        Ok(Arc::new(Open(client)))
    }
}

fn builder() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!(
            "wasm-workflow-executor/",
            env!("CARGO_PKG_VERSION")
        ))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
}

fn certificates(pem: &str) -> Result<Vec<reqwest::Certificate>, Error> {
    let bundle = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
        .ok()
        .filter(|bundle| !bundle.is_empty());
    bundle.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidConfig,
            "`caSecret` holds no certificates in PEM",
        )
    })
}

fn unreadable(error: KubernetesError) -> Error {
    let kind = match &error {
        KubernetesError::Unavailable { .. } => ErrorKind::Unavailable,
        KubernetesError::Forbidden(_) => ErrorKind::Forbidden,
        // Not the artifact is missing.
        _ => ErrorKind::InvalidConfig,
    };
    Error::new(kind, error.to_string()).caused_by(error)
}

fn way(guarded: Guarded) -> Arc<dyn HttpClient> {
    Arc::new(To(guarded))
}

fn refused(error: net::Error) -> Error {
    let kind = match error.kind() {
        net::ErrorKind::TooSlow => ErrorKind::TooSlow,
        _ if error.retryable() => ErrorKind::Unavailable,
        _ => ErrorKind::Forbidden,
    };
    Error::new(kind, error.to_string()).caused_by(error)
}

/// To machines that workflows name.
#[derive(Debug)]
struct To(Guarded);

#[async_trait]
impl HttpClient for To {
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        // While it works on what it was sent, a server may keep the connection open with next to nothing.
        let asks = request.method() == reqwest::Method::GET;
        let answer = self.0.execute(request).await.map_err(refused)?;
        Ok(match asks {
            true => net::with_min_rate(answer, refused),
            false => answer,
        })
    }
}

/// To wherever this machine's credentials are from: most clouds keep them at a link-local address.
#[derive(Debug)]
struct Open(reqwest::Client);

#[async_trait]
impl HttpClient for Open {
    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        self.0.execute(request).await.map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "the service of this machine's credentials does not answer",
            )
            .caused_by(error)
        })
    }
}
