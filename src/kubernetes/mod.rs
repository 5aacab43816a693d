//! The Kubernetes API: reading single objects, where the executor may.
//!
//! Every use has a way without it, so nothing here is needed to run a step. An object is read as a text and then as the few fields that
//! somebody wants: the client's own reading logs what it cannot understand, and that may be a Secret.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::AsyncReadExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;

/// Kubernetes keeps no object over about 1.5 MB.
const MAX_OBJECT_BYTES: u64 = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);
const CORE: &str = "/api/v1";
const ARGO: &str = "/apis/argoproj.io/v1alpha1";

/// Access to the API, as some user.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    namespace: String,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Why an object could not be read. Says nothing of its content.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The API cannot be used at all.
    #[error("the Kubernetes API cannot be used: {0}")]
    Unusable(String),
    /// There is none.
    #[error("there is no {0}")]
    NotFound(String),
    /// The API says no.
    #[error("{0} may not be read: the service account needs the verb `get` for it")]
    Forbidden(String),
    /// The API does not answer, or not as it should.
    #[error("{0} could not be read: {1}")]
    Unavailable(String, String),
    /// What came back is something else.
    #[error("{0} is not what it should be")]
    Malformed(String),
}

/// What is read of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workflow {
    /// Its metadata.
    pub metadata: WorkflowMetadata,
    /// What its author wrote.
    pub spec: WorkflowSpec,
    /// What the controller found out.
    pub status: WorkflowStatus,
}

/// `metadata` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowMetadata {
    /// Which of several with this name, one after the other, it is.
    pub uid: String,
    /// When it was made (RFC 3339).
    pub creation_timestamp: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// `spec` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowSpec {
    /// Its arguments.
    pub arguments: WorkflowArguments,
    /// Which of several repositories its artifacts are in.
    pub artifact_repository_ref: Option<ArtifactRepositoryRef>,
    /// `Stop` or `Terminate`, once somebody asked for that.
    pub shutdown: String,
}

/// `spec.artifactRepositoryRef` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactRepositoryRef {
    /// The `ConfigMap`; without one, `artifact-repositories`.
    pub config_map: String,
    /// The key in it; without one, the default that it names.
    pub key: String,
}

/// `spec.arguments` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct WorkflowArguments {
    /// Parameters, with their values.
    pub parameters: Vec<WorkflowParameter>,
}

/// `spec.arguments.parameters[]` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct WorkflowParameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// `status` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowStatus {
    /// Where its artifacts are.
    pub artifact_repository_ref: Option<ArtifactRepositoryStatus>,
    /// `Succeeded`, `Failed` or `Error`, once it is over.
    pub phase: String,
    /// Its nodes, by their ids.
    pub nodes: BTreeMap<String, WorkflowNode>,
    /// The same in gzip and base64, where they are many.
    pub compressed_nodes: String,
}

/// `status.nodes.*` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowNode {
    /// `Plugin`, `Pod`, `Steps` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Empty or `Pending` before it runs.
    pub phase: String,
    /// The template's name.
    pub template_name: String,
    /// Where the template is in another object.
    pub template_ref: Option<TemplateRef>,
}

/// `templateRef` of a node.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct TemplateRef {
    /// The template's name there.
    pub template: String,
}

/// `status.artifactRepositoryRef` of a Workflow.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactRepositoryStatus {
    /// The repository, as Argo writes it.
    pub artifact_repository: Option<serde_json::Value>,
}

/// What is read of a `ConfigMap`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    /// Its metadata.
    pub metadata: WorkflowMetadata,
    /// Its texts.
    pub data: BTreeMap<String, String>,
}

/// What is read of a Secret.
#[derive(serde::Deserialize)]
pub struct Secret {
    /// Its type.
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, Base64>,
}

#[derive(Default, serde::Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

struct Base64(Vec<u8>);

impl<'de> serde::Deserialize<'de> for Base64 {
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

impl Secret {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.0.as_slice())
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.get(name).map(String::as_str)
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    spec: PodSpec,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    image_pull_secrets: Vec<Named>,
    service_account_name: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAccount {
    #[serde(default)]
    image_pull_secrets: Vec<Named>,
}

#[derive(serde::Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

impl Kubernetes {
    /// The API as a kubeconfig file says; it may name a program that logs in, which is run.
    pub async fn from_kubeconfig(file: &Path) -> Result<Self, KubernetesError> {
        let unusable = |error: kube::config::KubeconfigError| {
            KubernetesError::Unusable(format!("the kubeconfig `{}`: {error}", file.display()))
        };
        let kubeconfig = Kubeconfig::read_from(file).map_err(unusable)?;
        let options = KubeConfigOptions::default();
        Self::new(
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(unusable)?,
        )
    }

    /// The API as the pod's service account may use it. `None` outside a cluster, and in a pod that has no such account's token.
    pub fn in_cluster() -> Result<Option<Self>, KubernetesError> {
        if env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
            return Ok(None);
        }
        match Config::incluster() {
            Ok(config) => Self::new(config).map(Some),
            Err(error) => {
                tracing::info!(%error, "no access to the Kubernetes API: Secrets and pull secrets are not read");
                Ok(None)
            }
        }
    }

    fn new(mut config: Config) -> Result<Self, KubernetesError> {
        // The client would try fifteen times, for minutes, while a step waits.
        config.default_retry = false;
        config.connect_timeout = Some(TIMEOUT);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| KubernetesError::Unusable(error.to_string()))?;
        Ok(Self { client, namespace })
    }

    /// Reads a Secret.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Secret, KubernetesError> {
        self.get(
            &format!("Secret `{name}` of namespace `{namespace}`"),
            CORE,
            namespace,
            "secrets",
            name,
        )
        .await
    }

    /// Reads a Workflow.
    pub async fn workflow(&self, namespace: &str, name: &str) -> Result<Workflow, KubernetesError> {
        let what = format!("Workflow `{name}` of namespace `{namespace}`");
        self.get(&what, ARGO, namespace, "workflows", name).await
    }

    /// Reads a `ConfigMap`.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<ConfigMap, KubernetesError> {
        self.get(
            &format!("ConfigMap `{name}` of namespace `{namespace}`"),
            CORE,
            namespace,
            "configmaps",
            name,
        )
        .await
    }

    /// The namespace of the executor's own pod, and the names of the Secrets that its images are pulled with: its own and its service account's.
    pub async fn own_pull_secrets(&self) -> Result<(String, Vec<String>), KubernetesError> {
        // The kubelet makes the pod's name the host's.
        let Ok(pod) = env::var("HOSTNAME") else {
            return Ok((self.namespace.clone(), Vec::new()));
        };
        let namespace = &self.namespace;
        let spec = self
            .get::<Pod>(
                &format!("pod `{pod}` of namespace `{namespace}`"),
                CORE,
                namespace,
                "pods",
                &pod,
            )
            .await?
            .spec;
        let account = spec.service_account_name.as_deref().unwrap_or("default");
        let what = format!("service account `{account}` of namespace `{namespace}`");
        let of_account = match self
            .get::<ServiceAccount>(&what, CORE, namespace, "serviceaccounts", account)
            .await
        {
            Ok(account) => account.image_pull_secrets,
            Err(error) => {
                tracing::info!(%error, "only the pod's own pull secrets are used");
                Vec::new()
            }
        };
        let mut names: Vec<String> = Vec::new();
        for Named { name } in spec.image_pull_secrets.into_iter().chain(of_account) {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        Ok((namespace.clone(), names))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        api: &str,
        namespace: &str,
        resource: &str,
        name: &str,
    ) -> Result<T, KubernetesError> {
        // The client puts names into the path as they are.
        if !is_dns_subdomain(namespace) || !is_dns_subdomain(name) {
            return Err(KubernetesError::NotFound(what.to_owned()));
        }
        let text = tokio::time::timeout(TIMEOUT, self.text(api, namespace, resource, name)).await;
        let text = text.map_err(|_| {
            KubernetesError::Unavailable(what.to_owned(), "no answer in time".to_owned())
        })?;
        let text = text.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 404 => {
                KubernetesError::NotFound(what.to_owned())
            }
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                KubernetesError::Forbidden(what.to_owned())
            }
            error => KubernetesError::Unavailable(what.to_owned(), error.to_string()),
        })?;
        serde_json::from_slice(&text).map_err(|_| KubernetesError::Malformed(what.to_owned()))
    }

    async fn text(
        &self,
        api: &str,
        namespace: &str,
        resource: &str,
        name: &str,
    ) -> kube::Result<Vec<u8>> {
        let request = kube::core::Request::new(format!("{api}/namespaces/{namespace}/{resource}"));
        let request = request
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
}

/// The names of Kubernetes' objects (RFC 1123).
pub fn is_dns_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.chars().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_part_of_a_path() {
        for name in ["regcred", "a.b-c", "0"] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "ä",
            &"a".repeat(254),
        ] {
            assert!(!is_dns_subdomain(name), "{name}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
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
