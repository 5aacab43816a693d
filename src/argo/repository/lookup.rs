//! Reads artifact repositories from the Kubernetes API.

use std::time::Duration;

use artifacts::ArtifactRepository;

use super::error::RepositoryError;
use crate::argo::workflow::{self, ArtifactRepositoryRef};
use crate::kubernetes::{ConfigMap, Kubernetes, KubernetesError};
use crate::step::Workflow;
use crate::text::yaml;

/// The `ConfigMap` with artifact repositories, if a Workflow does not name another one.
const DEFAULT_MAP: &str = "artifact-repositories";
/// The controller's configuration, as Argo's own manifests name it.
const CONTROLLER_MAP: &str = "workflow-controller-configmap";
/// The annotation that names the default key of a `ConfigMap` with artifact repositories.
const DEFAULT_KEY: &str = "workflows.argoproj.io/default-artifact-repository";
/// The controller writes the repository into the status soon after it starts the first nodes, so
/// the Workflow is read up to six times.
const ATTEMPTS: u32 = 6;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);

/// Reads the Workflow of a step. If `waits` is true, waits a few seconds until the status of the
/// Workflow names the repository.
///
/// `None` if the Workflow does not exist or may not be read.
pub(super) async fn workflow(
    kubernetes: &Kubernetes,
    workflow: &Workflow,
    waits: bool,
) -> Result<Option<workflow::WorkflowObject>, RepositoryError> {
    let mut attempt = 1;
    loop {
        let last = attempt == ATTEMPTS || !waits;
        let read =
            workflow::WorkflowObject::read(kubernetes, &workflow.namespace, &workflow.name).await;
        match read {
            Ok(read) if last || read.status.artifact_repository_ref.is_some() => {
                return Ok(Some(read));
            }
            Err(error @ KubernetesError::Unavailable { .. }) if last => return Err(error.into()),
            Ok(_) | Err(KubernetesError::Unavailable { .. }) => {}
            Err(error) => {
                tracing::info!(%error, "the Workflow's own artifact repository is not used");
                return Ok(None);
            }
        }
        attempt += 1;
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

/// Reads the repository that a Workflow names in `spec.artifactRepositoryRef`. Each namespace is
/// tried in turn.
pub(super) async fn referenced(
    kubernetes: &Kubernetes,
    namespaces: &[&str],
    reference: &ArtifactRepositoryRef,
) -> Result<ArtifactRepository, RepositoryError> {
    for namespace in namespaces {
        if let Some(repository) = in_map(kubernetes, namespace, reference).await? {
            return Ok(repository);
        }
    }
    Err(RepositoryError::NotFound {
        config_map: map_name(reference).to_owned(),
        key: reference.key.clone(),
    })
}

/// Reads the default repository of a namespace.
pub(super) async fn of_namespace(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<Option<ArtifactRepository>, RepositoryError> {
    in_map(kubernetes, namespace, &ArtifactRepositoryRef::default()).await
}

/// Reads the repository in the controller's configuration: the key `artifactRepository`, or the
/// block of this name in the key `config` (Argo's `config/controller.go`).
pub(super) async fn of_controller(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<Option<ArtifactRepository>, RepositoryError> {
    let Some(map) = config_map(kubernetes, namespace, CONTROLLER_MAP).await? else {
        return Ok(None);
    };
    let origin = format!("ConfigMap `{CONTROLLER_MAP}` of namespace `{namespace}`");
    if let Some(text) = map.data.get("artifactRepository") {
        return parse(text, &origin).map(Some);
    }
    let Some(text) = map.data.get("config") else {
        return Ok(None);
    };
    let documents = yaml::documents(text).map_err(|error| malformed(&origin, &error))?;
    let repository = documents
        .first()
        .and_then(|config| config.get("artifactRepository"));
    let read = repository.map(go_json::from_value);
    read.transpose().map_err(|error| malformed(&origin, &error))
}

fn map_name(reference: &ArtifactRepositoryRef) -> &str {
    match reference.config_map.as_str() {
        "" => DEFAULT_MAP,
        name => name,
    }
}

/// Reads the repository in one key of a `ConfigMap`. `None` if the `ConfigMap` or the key does not
/// exist or may not be read.
async fn in_map(
    kubernetes: &Kubernetes,
    namespace: &str,
    reference: &ArtifactRepositoryRef,
) -> Result<Option<ArtifactRepository>, RepositoryError> {
    let name = map_name(reference);
    let Some(map) = config_map(kubernetes, namespace, name).await? else {
        return Ok(None);
    };
    let key = match reference.key.as_str() {
        "" => map.metadata.annotations.get(DEFAULT_KEY),
        _ => Some(&reference.key),
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

async fn config_map(
    kubernetes: &Kubernetes,
    namespace: &str,
    name: &str,
) -> Result<Option<ConfigMap>, RepositoryError> {
    match kubernetes.get::<ConfigMap>(namespace, name).await {
        Ok(map) => Ok(Some(map)),
        Err(error @ KubernetesError::Unavailable { .. }) => Err(error.into()),
        Err(error) => {
            tracing::info!(%error, "artifact repositories of this ConfigMap are not used");
            Ok(None)
        }
    }
}

/// Parses a repository as the controller does: unknown keys are ignored, and null is absence.
fn parse(text: &str, origin: &str) -> Result<ArtifactRepository, RepositoryError> {
    let documents = yaml::documents(text).map_err(|error| malformed(origin, &error))?;
    let [value] = documents.as_slice() else {
        return Err(malformed(origin, &"it must be one YAML document"));
    };
    go_json::from_value(value).map_err(|error| malformed(origin, &error))
}

pub(super) fn malformed(origin: &str, error: &impl ToString) -> RepositoryError {
    RepositoryError::Malformed {
        origin: origin.to_owned(),
        message: error.to_string(),
    }
}
