//! Where a workflow's artifacts are that name no place of their own.
//!
//! Argo tells a plugin nothing of it. It is found, in this order:
//!
//! 1. in the Workflow's status, where the controller writes the repository that it resolved (`workflow/controller/operator.go`)
//! 2. where the Workflow's `artifactRepositoryRef` says, in its namespace and then in the controller's
//! 3. in the `ConfigMap` `artifact-repositories` of the workflow's namespace
//! 4. in the controller's configuration, where the operator names its namespace
//! 5. in the operator's own configuration
//!
//! All but the last are as the controller finds it (`workflow/artifactrepositories/artifactrepositories.go`), and need access to the Kubernetes
//! API. Everything else works without.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifacts::ArtifactRepository;
use jiff::Timestamp;
use moka::future::Cache;

use crate::kubernetes::{self, ArtifactRepositoryRef, ConfigMap, Kubernetes, KubernetesError};
use crate::step::{DefaultPlace, Workflow};
use crate::text::config_reader;
use crate::text::yaml;

const MAP: &str = "artifact-repositories";
/// The controller's configuration, as Argo's own manifests name it.
const CONTROLLER: &str = "workflow-controller-configmap";
const DEFAULT_KEY: &str = "workflows.argoproj.io/default-artifact-repository";
/// The controller writes the status soon after the first steps are given out.
const LOOKS: u32 = 6;
const BETWEEN: Duration = Duration::from_millis(500);
const REMEMBER: Duration = Duration::from_mins(10);
const PROVISIONAL: Duration = Duration::from_secs(5);

/// Finds repositories, and remembers them for each workflow.
#[derive(Debug)]
pub struct Repositories {
    kubernetes: Option<Kubernetes>,
    operator: Option<ArtifactRepository>,
    controller_namespace: Option<String>,
    known: Cache<String, Arc<Known>>,
    /// What was found for now: the controller may say something else in a moment.
    provisional: Cache<String, Option<Arc<Known>>>,
}

/// What is known of a workflow.
#[derive(Debug)]
struct Known {
    repository: ArtifactRepository,
    /// What stands for Argo's variables in keys.
    variables: BTreeMap<String, String>,
    /// Whether that is the last word: the controller's own, or of somebody who cannot be asked again.
    settled: bool,
}

impl Repositories {
    /// With access to the Kubernetes API, if there is any, and what the operator says.
    pub fn new(
        kubernetes: Option<Kubernetes>,
        operator: Option<ArtifactRepository>,
        controller_namespace: Option<String>,
    ) -> Self {
        let known = Cache::builder()
            .max_capacity(10_000)
            .time_to_live(REMEMBER)
            .build();
        let provisional = Cache::builder()
            .max_capacity(10_000)
            .time_to_live(PROVISIONAL)
            .build();
        Self {
            kubernetes,
            operator,
            controller_namespace,
            known,
            provisional,
        }
    }

    /// The place for one execution of a template. `None` where nobody says one.
    pub async fn place(
        &self,
        workflow: &Workflow,
        template: &str,
    ) -> Option<Result<DefaultPlace, String>> {
        let scope = workflow.scope();
        let find = async { self.find(workflow).await.map(|known| known.map(Arc::new)) };
        let found = if let Some(known) = self.known.get(&scope).await {
            Ok(Some(known))
        } else {
            let found = self.provisional.try_get_with(scope.clone(), find).await;
            if let Ok(Some(known)) = &found
                && known.settled
            {
                self.known.insert(scope, Arc::clone(known)).await;
            }
            found
        };
        let known = match found {
            Ok(known) => known?,
            Err(error) => {
                return Some(Err(format!(
                    "the workflow's artifact repository is not known: {error}"
                )));
            }
        };
        match known.repository.destination() {
            Ok(None) => None,
            Ok(Some(destination)) => Some(Ok(DefaultPlace {
                repository: destination.repository,
                key: key(
                    &destination.key_format,
                    &known.variables,
                    workflow,
                    template,
                ),
                default: true,
                archive_logs: known.repository.archive_logs == Some(true),
            })),
            Err(error) => Some(Err(error.to_string())),
        }
    }

    async fn find(&self, workflow: &Workflow) -> Result<Option<Known>, String> {
        let read = match &self.kubernetes {
            Some(kubernetes) if !workflow.name.is_empty() => read(kubernetes, workflow).await?,
            _ => None,
        };
        let variables = read.as_ref().map(variables).unwrap_or_default();
        let settled = read
            .as_ref()
            .is_none_or(|read| read.status.artifact_repository_ref.is_some());
        let repository = self.repository(workflow, read).await?;
        Ok(repository.map(|repository| Known {
            repository,
            variables,
            settled,
        }))
    }

    async fn repository(
        &self,
        workflow: &Workflow,
        read: Option<kubernetes::Workflow>,
    ) -> Result<Option<ArtifactRepository>, String> {
        let (status, named) = read
            .map(|read| (read.status, read.spec.artifact_repository_ref))
            .unwrap_or_default();
        if let Some(written) = status
            .artifact_repository_ref
            .and_then(|written| written.artifact_repository)
        {
            let repository =
                config_reader::read(&written, "status.artifactRepositoryRef.artifactRepository");
            return repository.map(Some).map_err(|error| error.to_string());
        }
        let Some(kubernetes) = &self.kubernetes else {
            return Ok(self.operator.clone());
        };
        if let Some(named) = named {
            for namespace in [
                Some(&workflow.namespace),
                self.controller_namespace.as_ref(),
            ]
            .into_iter()
            .flatten()
            {
                if let Some(repository) = of_map(kubernetes, namespace, &named).await? {
                    return Ok(Some(repository));
                }
            }
            let ArtifactRepositoryRef { config_map, key } = named;
            return Err(format!(
                "`spec.artifactRepositoryRef` names ConfigMap `{config_map}` and key `{key}`, and neither is found"
            ));
        }
        let of_namespace = of_map(
            kubernetes,
            &workflow.namespace,
            &ArtifactRepositoryRef::default(),
        )
        .await?;
        let found = match (of_namespace, &self.controller_namespace) {
            (None, Some(namespace)) => of_controller(kubernetes, namespace).await?,
            (repository, _) => repository,
        };
        Ok(found.or_else(|| self.operator.clone()))
    }
}

/// The Workflow, with its repository if the controller has written that.
async fn read(
    kubernetes: &Kubernetes,
    workflow: &Workflow,
) -> Result<Option<kubernetes::Workflow>, String> {
    let mut look = 1;
    loop {
        let last = look == LOOKS;
        match kubernetes
            .workflow(&workflow.namespace, &workflow.name)
            .await
        {
            Ok(read) if last || read.status.artifact_repository_ref.is_some() => {
                return Ok(Some(read));
            }
            Err(error @ KubernetesError::Unavailable(..)) if last => return Err(error.to_string()),
            Ok(_) | Err(KubernetesError::Unavailable(..)) => {}
            Err(error) => {
                tracing::info!(%error, "the Workflow's own artifact repository is not used");
                return Ok(None);
            }
        }
        look += 1;
        tokio::time::sleep(BETWEEN).await;
    }
}

/// The repository under a key of a `ConfigMap`; `None` where one of both is not there, or may not be read.
async fn of_map(
    kubernetes: &Kubernetes,
    namespace: &str,
    named: &ArtifactRepositoryRef,
) -> Result<Option<ArtifactRepository>, String> {
    let name = if named.config_map.is_empty() {
        MAP
    } else {
        &named.config_map
    };
    let Some(map) = config_map(kubernetes, namespace, name).await? else {
        return Ok(None);
    };
    let default = map.metadata.annotations.get(DEFAULT_KEY);
    let key = if named.key.is_empty() {
        default
    } else {
        Some(&named.key)
    };
    let Some(text) = key.and_then(|key| map.data.get(key)) else {
        return Ok(None);
    };
    parse(
        text,
        &format!("ConfigMap `{name}` of namespace `{namespace}`"),
    )
    .map(Some)
}

/// The repository in the controller's configuration: a text of its own, or part of one (`config/controller.go`).
async fn of_controller(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<Option<ArtifactRepository>, String> {
    let Some(map) = config_map(kubernetes, namespace, CONTROLLER).await? else {
        return Ok(None);
    };
    let at = format!("ConfigMap `{CONTROLLER}` of namespace `{namespace}`");
    if let Some(text) = map.data.get("artifactRepository") {
        return parse(text, &at).map(Some);
    }
    let Some(text) = map.data.get("config") else {
        return Ok(None);
    };
    let documents = yaml::documents(text).map_err(|error| format!("{at}: {error}"))?;
    let repository = documents
        .first()
        .and_then(|config| config.get("artifactRepository"));
    let read = repository.map(|value| config_reader::read(value, "artifactRepository"));
    read.transpose().map_err(|error| format!("{at}: {error}"))
}

async fn config_map(
    kubernetes: &Kubernetes,
    namespace: &str,
    name: &str,
) -> Result<Option<ConfigMap>, String> {
    match kubernetes.config_map(namespace, name).await {
        Ok(map) => Ok(Some(map)),
        Err(error @ KubernetesError::Unavailable(..)) => Err(error.to_string()),
        Err(error) => {
            tracing::info!(%error, "no artifact repository is known from there");
            Ok(None)
        }
    }
}

fn parse(text: &str, at: &str) -> Result<ArtifactRepository, String> {
    let documents = yaml::documents(text).map_err(|error| format!("{at}: {error}"))?;
    let [value] = documents.as_slice() else {
        return Err(format!("{at}: it must be one YAML document"));
    };
    config_reader::read(value, "repository").map_err(|error| format!("{at}: {error}"))
}

/// What Argo's variables stand for in keys (`docs/variables.md`), as far as the Workflow says it.
fn variables(workflow: &kubernetes::Workflow) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for parameter in &workflow.spec.arguments.parameters {
        let value = parameter.value.clone().unwrap_or_default();
        variables.insert(format!("workflow.parameters.{}", parameter.name), value);
    }
    let metadata = &workflow.metadata;
    for (kind, texts) in [
        ("labels", &metadata.labels),
        ("annotations", &metadata.annotations),
    ] {
        variables.extend(
            texts
                .iter()
                .map(|(name, value)| (format!("workflow.{kind}.{name}"), value.clone())),
        );
    }
    if let Ok(created) = metadata.creation_timestamp.parse::<Timestamp>() {
        variables.insert(
            "workflow.creationTimestamp".to_owned(),
            metadata.creation_timestamp.clone(),
        );
        // Those of strftime that Argo has.
        for letter in "aAbBcdDFhHIjkLlmMnprRsStTuUvVwWxXyYzZ".chars() {
            let text = created.strftime(&format!("%{letter}")).to_string();
            variables.insert(format!("workflow.creationTimestamp.{letter}"), text);
        }
        variables.insert(
            "workflow.creationTimestamp.RFC3339".to_owned(),
            metadata.creation_timestamp.clone(),
        );
    }
    variables
}

/// The beginning of one execution's keys. A step has no pod: what stands for its name is this execution's own, so that no attempt overwrites another's.
fn key(
    format: &str,
    known: &BTreeMap<String, String>,
    workflow: &Workflow,
    template: &str,
) -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let pod = format!(
        "{}-{template}-{since:x}{:06x}",
        workflow.name,
        fastrand::u32(..1 << 24)
    );
    let value = |name: &str| match name {
        "workflow.name" => Some(workflow.name.clone()),
        "workflow.namespace" => Some(workflow.namespace.clone()),
        "workflow.uid" => Some(workflow.uid.clone()),
        "pod.name" => Some(pod.clone()),
        name => known.get(name).cloned(),
    };
    let Some(mut key) = expand(format, &value) else {
        tracing::warn!(
            format,
            "the repository's `keyFormat` has a variable that is not known here; the default is used"
        );
        return format!("{}/{pod}", workflow.name);
    };
    if !format.contains("pod.name") {
        key = format!("{}/{pod}", key.trim_end_matches('/'));
    }
    key.trim_matches('/').to_owned()
}

fn expand(format: &str, value: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut expanded, mut rest) = (String::new(), format);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}")?;
        expanded.push_str(before);
        expanded.push_str(&value(name.trim())?);
        rest = after;
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_format_and_are_each_executions_own() {
        let workflow = Workflow {
            name: "wf".to_owned(),
            namespace: "argo".to_owned(),
            uid: "u".to_owned(),
        };
        let read: kubernetes::Workflow = serde_json::from_value(serde_json::json!({
            "metadata": {"creationTimestamp": "2026-03-09T07:05:00Z", "labels": {"team": "a"}},
            "spec": {"arguments": {"parameters": [{"name": "env", "value": "prod"}]}},
        }))
        .unwrap();
        let known = variables(&read);
        let key = |format: &str| key(format, &known, &workflow, "t");
        for (format, start) in [
            ("{{workflow.name}}/{{pod.name}}", "wf/wf-t-"),
            (
                "a/{{workflow.creationTimestamp.Y}}/{{workflow.creationTimestamp.m}}/{{ workflow.creationTimestamp.d }}",
                "a/2026/03/09/wf-t-",
            ),
            (
                "{{workflow.namespace}}/{{workflow.parameters.env}}/{{workflow.labels.team}}/{{pod.name}}",
                "argo/prod/a/wf-t-",
            ),
            ("{{workflow.unknown}}/x", "wf/wf-t-"),
            ("{{workflow.name", "wf/wf-t-"),
        ] {
            assert!(key(format).starts_with(start), "{format}: {}", key(format));
        }
        assert_ne!(key("fixed"), key("fixed"));
    }
}
