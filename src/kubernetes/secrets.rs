//! Secrets, and the pull secrets of the executor's own pod.

use std::collections::BTreeMap;
use std::env;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::client::Kubernetes;
use super::error::KubernetesError;
use super::resource::{Metadata, Resource};

/// A Secret. Its values are not shown in logs.
#[derive(Deserialize)]
pub struct Secret {
    /// Type of the Secret, such as `kubernetes.io/dockerconfigjson`.
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, Base64>,
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Secret")
            .field("kind", &self.kind)
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

impl Resource for Secret {
    const API: &'static str = "/api/v1";
    const KIND: &'static str = "Secret";
    const PLURAL: &'static str = "secrets";
}

impl Secret {
    /// Value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.0.as_slice())
    }

    /// Value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.get(name).map(String::as_str)
    }
}

/// Names of the Secrets that the images of the executor's own pod are pulled with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSecrets {
    /// Namespace of the pod and of the Secrets.
    pub namespace: String,
    /// Names of the Secrets, without duplicates.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
struct Pod {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    image_pull_secrets: Vec<SecretName>,
    service_account_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAccount {
    #[serde(default)]
    image_pull_secrets: Vec<SecretName>,
}

#[derive(Deserialize)]
struct SecretName {
    #[serde(default)]
    name: String,
}

impl Resource for Pod {
    const API: &'static str = "/api/v1";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
}

impl Resource for ServiceAccount {
    const API: &'static str = "/api/v1";
    const KIND: &'static str = "ServiceAccount";
    const PLURAL: &'static str = "serviceaccounts";
}

impl Kubernetes {
    /// Reads the names of the pull secrets of the executor's own pod and of its service account.
    ///
    /// # Errors
    ///
    /// The pod cannot be read. If only the service account cannot be read, the pod's own pull
    /// secrets are returned.
    pub async fn own_pull_secrets(&self) -> Result<PullSecrets, KubernetesError> {
        let namespace = self.own_namespace().to_owned();
        // The kubelet sets the host name to the pod's name.
        let Ok(pod) = env::var("HOSTNAME") else {
            return Ok(PullSecrets {
                namespace,
                names: Vec::new(),
            });
        };
        let spec = self.get::<Pod>(&namespace, &pod).await?.spec;
        let account = spec.service_account_name.as_deref().unwrap_or("default");
        let of_account = match self.get::<ServiceAccount>(&namespace, account).await {
            Ok(account) => account.image_pull_secrets,
            Err(error) => {
                tracing::info!(%error, "only the pod's own pull secrets are used");
                Vec::new()
            }
        };
        let mut names: Vec<String> = Vec::new();
        for SecretName { name } in spec.image_pull_secrets.into_iter().chain(of_account) {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(PullSecrets { namespace, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_values_of_a_secret() {
        let secret: Secret =
            serde_json::from_str(r#"{"type":"Opaque","data":{"k":"c2VjcmV0"}}"#).unwrap();
        assert_eq!(secret.get("k"), Some(&b"secret"[..]));
        let shown = format!("{secret:?}");
        assert!(
            shown.contains('k') && !shown.contains("secret\""),
            "{shown}"
        );
    }
}
