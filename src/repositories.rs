//! Where a workflow's artifacts are that name no place of their own.
//!
//! Argo tells a plugin nothing of it. It is found, in this order:
//!
//! 1. in the Workflow's status, where the controller writes the repository that it resolved (`workflow/controller/operator.go`)
//! 2. in the operator's own configuration
//! 3. in the `ConfigMap` `artifact-repositories` of the workflow's namespace, as the controller would find it
//!    (`workflow/artifactrepositories/artifactrepositories.go`)
//!
//! The first and the third need access to the Kubernetes API. Everything else works without.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifacts::ArtifactRepository;
use jiff::Timestamp;
use moka::future::Cache;

use crate::document;
use crate::kubernetes::{self, Kubernetes, KubernetesError};
use crate::step::{DefaultPlace, Workflow};
use crate::yaml;

const MAP: &str = "artifact-repositories";
const DEFAULT_KEY: &str = "workflows.argoproj.io/default-artifact-repository";
/// The controller writes the status soon after the first steps are given out.
const LOOKS: u32 = 6;
const BETWEEN: Duration = Duration::from_millis(500);
const REMEMBER: Duration = Duration::from_mins(10);

/// Finds repositories, and remembers them for each workflow.
#[derive(Debug)]
pub struct Repositories {
    kubernetes: Option<Kubernetes>,
    operator: Option<ArtifactRepository>,
    known: Cache<String, Option<Arc<Known>>>,
}

/// What is known of a workflow.
#[derive(Debug)]
struct Known {
    repository: ArtifactRepository,
    /// What stands for Argo's variables in keys.
    variables: BTreeMap<String, String>,
}

impl Repositories {
    /// With access to the Kubernetes API, if there is any, and what the operator says.
    pub fn new(kubernetes: Option<Kubernetes>, operator: Option<ArtifactRepository>) -> Self {
        Self { kubernetes, operator, known: Cache::builder().max_capacity(10_000).time_to_live(REMEMBER).build() }
    }

    /// The place for one execution of a template. `None` where nobody says one.
    pub async fn place(&self, workflow: &Workflow, template: &str) -> Option<Result<DefaultPlace, String>> {
        let find = async { self.find(workflow).await.map(|known| known.map(Arc::new)) };
        let found = self.known.try_get_with(workflow.scope(), find).await;
        let known = match found {
            Ok(known) => known?,
            Err(error) => return Some(Err(format!("the workflow's artifact repository is not known: {error}"))),
        };
        match known.repository.place() {
            Ok(None) => None,
            Ok(Some((repository, format))) => Some(Ok(DefaultPlace {
                repository,
                key: key(&format, &known.variables, workflow, template),
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
        let of_status = read.and_then(|workflow| workflow.status.artifact_repository_ref?.artifact_repository);
        if let Some(written) = of_status {
            let repository = document::read(&written, "status.artifactRepositoryRef.artifactRepository");
            return Ok(Some(Known { repository: repository.map_err(|error| error.to_string())?, variables }));
        }
        if let Some(operator) = &self.operator {
            return Ok(Some(Known { repository: operator.clone(), variables }));
        }
        let Some(kubernetes) = &self.kubernetes else { return Ok(None) };
        let repository = configured(kubernetes, &workflow.namespace).await?;
        Ok(repository.map(|repository| Known { repository, variables }))
    }
}

/// The Workflow, with its repository if the controller has written that.
async fn read(kubernetes: &Kubernetes, workflow: &Workflow) -> Result<Option<kubernetes::Workflow>, String> {
    let mut look = 1;
    loop {
        let last = look == LOOKS;
        match kubernetes.workflow(&workflow.namespace, &workflow.name).await {
            Ok(read) if last || read.status.artifact_repository_ref.is_some() => return Ok(Some(read)),
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

/// The default of the workflow's namespace.
async fn configured(kubernetes: &Kubernetes, namespace: &str) -> Result<Option<ArtifactRepository>, String> {
    let map = match kubernetes.config_map(namespace, MAP).await {
        Ok(map) => map,
        Err(error @ KubernetesError::Unavailable(..)) => return Err(error.to_string()),
        Err(error) => {
            tracing::info!(%error, "no artifact repository is known for this namespace");
            return Ok(None);
        }
    };
    let Some(text) = map.metadata.annotations.get(DEFAULT_KEY).and_then(|key| map.data.get(key)) else {
        return Ok(None);
    };
    let at = format!("ConfigMap `{MAP}` of namespace `{namespace}`");
    let documents = yaml::documents(text).map_err(|error| format!("{at}: {error}"))?;
    let [value] = documents.as_slice() else { return Err(format!("{at}: it must be one YAML document")) };
    document::read(value, "repository").map(Some).map_err(|error| format!("{at}: {error}"))
}

/// What Argo's variables stand for in keys (`docs/variables.md`), as far as the Workflow says it.
fn variables(workflow: &kubernetes::Workflow) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for parameter in &workflow.spec.arguments.parameters {
        let value = parameter.value.clone().unwrap_or_default();
        variables.insert(format!("workflow.parameters.{}", parameter.name), value);
    }
    let metadata = &workflow.metadata;
    for (kind, texts) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
        variables.extend(texts.iter().map(|(name, value)| (format!("workflow.{kind}.{name}"), value.clone())));
    }
    if let Ok(created) = metadata.creation_timestamp.parse::<Timestamp>() {
        variables.insert("workflow.creationTimestamp".to_owned(), metadata.creation_timestamp.clone());
        // Those of strftime that Argo has.
        for letter in "aAbBcdDFhHIjkLlmMnprRsStTuUvVwWxXyYzZ".chars() {
            let text = created.strftime(&format!("%{letter}")).to_string();
            variables.insert(format!("workflow.creationTimestamp.{letter}"), text);
        }
        variables.insert("workflow.creationTimestamp.RFC3339".to_owned(), metadata.creation_timestamp.clone());
    }
    variables
}

/// The beginning of one execution's keys. A step has no pod: what stands for its name is this execution's own, so that no attempt overwrites another's.
fn key(format: &str, known: &BTreeMap<String, String>, workflow: &Workflow, template: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let pod = format!("{}-{template}-{since:x}{:06x}", workflow.name, fastrand::u32(..1 << 24));
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
        let workflow = Workflow { name: "wf".to_owned(), namespace: "argo".to_owned(), uid: "u".to_owned() };
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
