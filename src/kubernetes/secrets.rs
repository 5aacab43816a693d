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
    data: BTreeMap<String, Data>,
}

/// A value of a Secret. `None` if the text is not base64: the other values can be used.
struct Data(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(STANDARD.decode(text).ok()))
    }
}

/// The error for a value of a Secret that is not base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of its key `{0}` is not base64")]
pub struct NotBase64(String);

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
    const OF_TENANT: bool = true;
}

impl Secret {
    /// Value of a key. `None` if the Secret does not have the key.
    ///
    /// # Errors
    ///
    /// The value is not base64.
    pub fn get(&self, key: &str) -> Result<Option<&[u8]>, NotBase64> {
        let Some(Data(value)) = self.data.get(key) else {
            return Ok(None);
        };
        match value {
            Some(value) => Ok(Some(value)),
            None => Err(NotBase64(key.to_owned())),
        }
    }

    /// Whether the Secret has a key.
    pub fn has(&self, key: &str) -> bool {
        self.data.contains_key(key)
    }

    /// Value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.get(name).map(String::as_str)
    }
}

/// Names of the Secrets that images are pulled with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSecrets {
    /// Namespace of the Secrets.
    pub namespace: String,
    /// Names of the Secrets, without duplicates.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    image_pull_secrets: Vec<SecretName>,
    service_account_name: String,
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
    const OF_TENANT: bool = true;
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
        let account = match spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        };
        let of_account = match self.get::<ServiceAccount>(&namespace, account).await {
            Ok(account) => account.image_pull_secrets,
            Err(error) => {
                tracing::info!(%error, "only the pod's own pull secrets are used");
                Vec::new()
            }
        };
        let names = spec.image_pull_secrets.into_iter().chain(of_account);
        Ok(PullSecrets::new(namespace, names))
    }

    /// Reads the names of the pull secrets of the tenant's service account in a namespace. Without
    /// a name of such accounts, there are no pull secrets.
    pub async fn pull_secrets_of_tenant(
        &self,
        namespace: &str,
    ) -> Result<PullSecrets, KubernetesError> {
        let names = match &self.tenant_account {
            Some(account) => {
                let account = self.get::<ServiceAccount>(namespace, account).await?;
                account.image_pull_secrets
            }
            None => Vec::new(),
        };
        Ok(PullSecrets::new(namespace.to_owned(), names.into_iter()))
    }
}

impl PullSecrets {
    fn new(namespace: String, all: impl Iterator<Item = SecretName>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for SecretName { name } in all {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        Self { namespace, names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_values_of_a_secret() {
        let secret: Secret =
            go_json::from_slice(br#"{"type":"Opaque","data":{"k":"c2VjcmV0"}}"#).unwrap();
        assert_eq!(secret.get("k"), Ok(Some(&b"secret"[..])));
        let shown = format!("{secret:?}");
        assert!(
            shown.contains('k') && !shown.contains("secret\""),
            "{shown}"
        );
    }

    #[test]
    fn null_and_a_bad_value_do_not_take_the_other_values_along() {
        let json = br#"{"type": null, "metadata": {"annotations": null, "labels": null},
            "data": {"good": "c2VjcmV0", "bad": "*", "none": null}}"#;
        let secret: Secret = go_json::from_slice(json).unwrap();
        assert_eq!(secret.get("good"), Ok(Some(&b"secret"[..])));
        assert_eq!(secret.get("bad"), Err(NotBase64("bad".to_owned())));
        assert_eq!(secret.get("none"), Ok(Some(&b""[..])));
        assert_eq!(secret.get("other"), Ok(None));
        let empty: Secret = go_json::from_slice(br#"{"metadata": null, "data": null}"#).unwrap();
        assert_eq!(empty.get("k"), Ok(None));
        for json in [
            r#"{"spec": null}"#,
            r#"{"spec": {"imagePullSecrets": null, "serviceAccountName": null}}"#,
            r#"{"spec": {"imagePullSecrets": [null, {"name": null}]}}"#,
        ] {
            let pod: Pod = go_json::from_slice(json.as_bytes()).unwrap();
            let names = pod
                .spec
                .image_pull_secrets
                .iter()
                .map(|secret| &secret.name);
            assert!(names.into_iter().all(String::is_empty), "{json}");
        }
    }
}
