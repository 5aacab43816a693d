//! Credentials for the servers of modules. They are searched in this order:
//!
//! 1. the Secrets that the template names
//! 2. the operator's: `sources.credentials` of the configuration, then `DOCKER_AUTH_CONFIG`
//! 3. with access to the Kubernetes API, the pull secrets of the executor's own pod and of its
//!    service account; with `--cluster`, the pull secrets of the tenant's service account in the
//!    workflow's namespace
//! 4. in local mode, the files that `docker login` and `podman login` write, and the credential
//!    helpers that they name
//!
//! A credential is sent only to the host that it names. A helper that a Secret or the operator's
//! configuration names is never run.

mod configured;
mod local;
mod secret;

use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache;
use sources::credentials::Keyring;
use sources::{CredentialProvider, Error, ErrorKind, Requester};

use crate::config::HostCredential;
use crate::kubernetes::{Kubernetes, KubernetesError, PullSecrets, Secret};

/// Time for which a Secret is cached. A changed password is used after this time.
const SECRET_TTL: Duration = Duration::from_mins(1);
/// Time for which the pull secrets of a pod or a service account are cached. If the API does not
/// answer, steps wait for it no more often than this.
const PULLED_TTL: Duration = Duration::from_mins(5);
/// Most Secrets in the cache.
const MAX_CACHED: u64 = 1000;

/// Finds credentials in all places that this process can read.
#[derive(Debug)]
pub(super) struct Credentials {
    kubernetes: Option<Kubernetes>,
    operator: Vec<Keyring>,
    local: Vec<Keyring>,
    secrets: Cache<SecretName, Keyring>,
    /// By the namespace of the workflow.
    pulled: Cache<String, Keyring>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SecretName {
    namespace: String,
    name: String,
}

impl Credentials {
    /// Reads the operator's credentials. In `local` mode, also reads those of the user.
    ///
    /// # Errors
    ///
    /// A configured credential cannot be read.
    pub(super) fn load(
        configured: &[HostCredential],
        kubernetes: Option<Kubernetes>,
        local: bool,
    ) -> Result<Self, Error> {
        let mut operator = vec![configured::keyring(configured)?];
        operator.extend(configured::from_environment()?);
        let local = match local {
            true => local::keyrings(),
            false => Vec::new(),
        };
        let secrets = Cache::builder()
            .max_capacity(MAX_CACHED)
            .time_to_live(SECRET_TTL)
            .build();
        let pulled = Cache::builder()
            .max_capacity(MAX_CACHED)
            .time_to_live(PULLED_TTL)
            .build();
        Ok(Self {
            kubernetes,
            operator,
            local,
            secrets,
            pulled,
        })
    }

    /// Credentials in a Secret.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Keyring, Error> {
        let Some(kubernetes) = &self.kubernetes else {
            let message =
                format!("Secret `{name}` cannot be read: there is no access to the Kubernetes API");
            return Err(Error::new(ErrorKind::InvalidConfig, message).with_hint(
                "ask the operator to install the plugin with API access, or to set \
                 `sources.credentials` or DOCKER_AUTH_CONFIG",
            ));
        };
        let key = SecretName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        if let Some(keyring) = self.secrets.get(&key).await {
            return Ok(keyring);
        }
        let secret = kubernetes
            .get::<Secret>(namespace, name)
            .await
            .map_err(|error| unreadable(&error))?;
        let keyring = secret::keyring(&secret, name)?;
        self.secrets.insert(key, keyring.clone()).await;
        Ok(keyring)
    }

    /// Credentials in the Secrets that the template names. All Secrets are one keyring, as for the
    /// kubelet. A Secret that cannot be used is left out, unless it is the only one.
    async fn named(&self, requester: &Requester) -> Result<Keyring, Error> {
        let mut keyring = Keyring::default();
        let mut failed = Vec::new();
        for name in &requester.secrets {
            match self.secret(&requester.namespace, name).await {
                Ok(found) => keyring.merge(found.with_hosts_shown(&secret::origin(name))),
                Err(error) if error.retryable() => return Err(error),
                Err(error) => failed.push(error),
            }
        }
        match failed.first() {
            Some(error) if failed.len() == requester.secrets.len() => return Err(error.clone()),
            _ => {}
        }
        for error in failed {
            keyring.omit(None, error.to_string());
        }
        Ok(keyring)
    }

    /// Credentials with which Kubernetes pulls images. An error is only logged, because no template
    /// asked for these credentials. If the API does not answer, the next call tries again.
    async fn of_kubernetes(&self, workflow_namespace: &str) -> Keyring {
        let Some(kubernetes) = &self.kubernetes else {
            return Keyring::default();
        };
        // The same pod serves all workflows.
        let key = match kubernetes.acts_for_tenants() {
            true => workflow_namespace,
            false => "",
        };
        self.pulled
            .try_get_with(key.to_owned(), self.read_pull_secrets(kubernetes, key))
            .await
            .unwrap_or_else(|error| {
                let whose = whose(kubernetes);
                tracing::warn!(%error, "{whose} pull secrets are not used this time");
                Keyring::default()
            })
    }

    async fn read_pull_secrets(
        &self,
        kubernetes: &Kubernetes,
        workflow_namespace: &str,
    ) -> Result<Keyring, Error> {
        let found = match kubernetes.acts_for_tenants() {
            true => kubernetes.pull_secrets_of_tenant(workflow_namespace).await,
            false => kubernetes.own_pull_secrets().await,
        };
        let PullSecrets { namespace, names } = match found {
            Ok(found) => found,
            Err(error @ KubernetesError::Unavailable { .. }) => return Err(unreadable(&error)),
            Err(error) => {
                let whose = whose(kubernetes);
                tracing::info!(%error, "{whose} pull secrets are not used");
                return Ok(Keyring::default());
            }
        };
        let mut keyring = Keyring::default();
        for name in names {
            match self.secret(&namespace, &name).await {
                Ok(found) => keyring.merge(found),
                Err(error) if error.retryable() => return Err(error),
                Err(error) => {
                    keyring.omit(
                        None,
                        format!(
                            "a pull secret of {} is not used: {error}",
                            holder(kubernetes)
                        ),
                    );
                }
            }
        }
        Ok(keyring)
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    async fn keyrings(&self, requester: &Requester) -> Result<Vec<Keyring>, Error> {
        let mut keyrings = vec![self.named(requester).await?];
        keyrings.extend(self.operator.iter().cloned());
        keyrings.push(self.of_kubernetes(&requester.namespace).await);
        keyrings.extend(self.local.iter().cloned());
        Ok(keyrings)
    }
}

/// Whose pull secrets are read.
fn whose(kubernetes: &Kubernetes) -> &'static str {
    match kubernetes.acts_for_tenants() {
        true => "the tenant's",
        false => "the pod's own",
    }
}

/// The object that names the pull secrets.
fn holder(kubernetes: &Kubernetes) -> &'static str {
    match kubernetes.acts_for_tenants() {
        true => "the tenant's service account",
        false => "the pod",
    }
}

fn unreadable(error: &KubernetesError) -> Error {
    let message = error.to_string();
    match error {
        KubernetesError::NotFound(_) => Error::new(ErrorKind::NotFound, message)
            .with_hint("create it in the workflow's namespace, or correct `pull.secrets`"),
        KubernetesError::Forbidden(_) => Error::new(ErrorKind::Unauthorized, message)
            .with_hint("ask the operator to add the Secret to the plugin's Role"),
        KubernetesError::ForbiddenForTenant { .. } => Error::new(ErrorKind::Unauthorized, message)
            .with_hint("add the Secret to the Role of this service account"),
        KubernetesError::Unusable(_) | KubernetesError::Malformed { .. } => {
            Error::new(ErrorKind::InvalidConfig, message)
        }
        KubernetesError::Unavailable { .. } => Error::new(ErrorKind::Unavailable, message),
    }
}
