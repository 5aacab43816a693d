//! The artifact repository of a workflow, for artifacts without a location of their own.
//!
//! Argo does not send the repository to a plugin. It is searched in this order:
//!
//! 1. in the Workflow's status, where the controller writes the repository that it resolved
//!    (`workflow/controller/operator.go`)
//! 2. in the `ConfigMap` that the Workflow's `artifactRepositoryRef` names: first in the
//!    Workflow's namespace, then in the controller's
//! 3. in the `ConfigMap` `artifact-repositories` of the Workflow's namespace
//! 4. in the controller's configuration, if the operator configured the controller's namespace
//! 5. in the executor's own configuration
//!
//! The first four need access to the Kubernetes API, and follow the controller
//! (`workflow/artifactrepositories/artifactrepositories.go`). Without access, only the last is
//! used.

mod error;
mod key_format;
mod lookup;

use std::sync::Arc;
use std::time::Duration;

use artifacts::ArtifactRepository;
use moka::future::Cache;

use super::workflow;
use crate::kubernetes::Kubernetes;
use crate::step::{ArtifactDestination, Workflow};
use key_format::Variables;

pub use error::RepositoryError;

/// Time for which the repository of a workflow is cached once it is final.
const FINAL_TTL: Duration = Duration::from_mins(10);
/// Time for which the repository of a workflow is cached before the controller has written it into
/// the status.
const PROVISIONAL_TTL: Duration = Duration::from_secs(5);
/// Most workflows in each cache.
const MAX_CACHED: u64 = 10_000;

/// The result of the search for a workflow's artifact repository.
#[derive(Clone, Debug, Default)]
pub enum DestinationLookup {
    /// The repository, and the key prefix of one execution.
    Known(ArtifactDestination),
    /// No repository is configured.
    #[default]
    Unknown,
    /// A repository may be configured, but it could not be read.
    Unavailable(RepositoryError),
}

/// Finds the artifact repositories of workflows, and caches them.
#[derive(Debug)]
pub struct Repositories {
    kubernetes: Option<Kubernetes>,
    operator: Option<ArtifactRepository>,
    controller_namespace: Option<String>,
    known: Cache<String, Arc<Found>>,
    /// Results that the controller may still replace.
    provisional: Cache<Provisional, Option<Arc<Found>>>,
}

/// Key of a result that the controller may still replace.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Provisional {
    workflow: String,
    /// Whether the search waited for the controller.
    waits: bool,
}

/// The repository of a workflow.
#[derive(Debug)]
struct Found {
    repository: ArtifactRepository,
    /// Values of Argo's variables for keys.
    variables: Variables,
    /// Whether the result is final: the controller wrote it into the status, or the Workflow
    /// cannot be read.
    is_final: bool,
}

impl Repositories {
    /// Makes an empty cache. `kubernetes` is the access to the API, if any. `operator` and
    /// `controller_namespace` are the executor's configuration.
    pub fn new(
        kubernetes: Option<Kubernetes>,
        operator: Option<ArtifactRepository>,
        controller_namespace: Option<String>,
    ) -> Self {
        let known = Cache::builder()
            .max_capacity(MAX_CACHED)
            .time_to_live(FINAL_TTL)
            .build();
        let provisional = Cache::builder()
            .max_capacity(MAX_CACHED)
            .time_to_live(PROVISIONAL_TTL)
            .build();
        Self {
            kubernetes,
            operator,
            controller_namespace,
            known,
            provisional,
        }
    }

    /// Finds the repository for one execution of a template, and makes the execution's key prefix.
    ///
    /// If `waits` is true, the search waits until the controller has written the repository into
    /// the Workflow's status. Only steps with artifacts need this.
    pub async fn destination(
        &self,
        workflow: &Workflow,
        template: &str,
        waits: bool,
    ) -> DestinationLookup {
        let destination = async {
            let Some(found) = self.cached(workflow, waits).await? else {
                return Ok(None);
            };
            let Some(destination) = found.repository.destination()? else {
                return Ok(None);
            };
            let format = &destination.key_format;
            Ok(Some(ArtifactDestination {
                repository: destination.repository,
                key: key_format::expand(format, &found.variables, workflow, template),
                default: true,
                archive_logs: found.repository.archive_logs == Some(true),
            }))
        };
        match destination.await {
            Ok(Some(destination)) => DestinationLookup::Known(destination),
            Ok(None) => DestinationLookup::Unknown,
            Err(error) => DestinationLookup::Unavailable(error),
        }
    }

    async fn cached(
        &self,
        workflow: &Workflow,
        waits: bool,
    ) -> Result<Option<Arc<Found>>, RepositoryError> {
        let scope = workflow.scope();
        if let Some(found) = self.known.get(&scope).await {
            return Ok(Some(found));
        }
        let key = Provisional {
            workflow: scope.clone(),
            waits,
        };
        let found = match self.provisional.get(&key).await {
            Some(found) => found,
            None => self.search(key, workflow).await?,
        };
        if let Some(found) = &found
            && found.is_final
        {
            self.known.insert(scope, Arc::clone(found)).await;
        }
        Ok(found)
    }

    /// Searches the repository. Searches with the same key run once.
    async fn search(
        &self,
        key: Provisional,
        workflow: &Workflow,
    ) -> Result<Option<Arc<Found>>, RepositoryError> {
        let waits = key.waits;
        // The search is rare, and its future is large.
        let find = Box::pin(async {
            let found = self.find(workflow, waits).await?;
            Ok(found.map(Arc::new))
        });
        let found = self.provisional.try_get_with(key, find).await;
        found.map_err(|error: Arc<RepositoryError>| RepositoryError::clone(&error))
    }

    async fn find(
        &self,
        workflow: &Workflow,
        waits: bool,
    ) -> Result<Option<Found>, RepositoryError> {
        let read = match &self.kubernetes {
            Some(kubernetes) if !workflow.name.is_empty() => {
                lookup::workflow(kubernetes, workflow, waits).await?
            }
            _ => None,
        };
        let variables = read.as_ref().map(key_format::variables).unwrap_or_default();
        let is_final = read
            .as_ref()
            .is_none_or(|read| read.status.artifact_repository_ref.is_some());
        let repository = self.repository(workflow, read).await?;
        Ok(repository.map(|repository| Found {
            repository,
            variables,
            is_final,
        }))
    }

    /// Searches in the order of the file's header.
    async fn repository(
        &self,
        workflow: &Workflow,
        read: Option<workflow::WorkflowObject>,
    ) -> Result<Option<ArtifactRepository>, RepositoryError> {
        let (status, reference) = read
            .map(|read| (read.status, read.spec.artifact_repository_ref))
            .unwrap_or_default();
        if let Some(written) = status
            .artifact_repository_ref
            .and_then(|written| written.artifact_repository)
        {
            return go_json::from_value(&written)
                .map(Some)
                .map_err(|error| lookup::malformed("the Workflow", &error));
        }
        let Some(kubernetes) = &self.kubernetes else {
            return Ok(self.operator.clone());
        };
        if let Some(reference) = reference {
            let mut namespaces = vec![workflow.namespace.as_str()];
            namespaces.extend(self.controller_namespace.as_deref());
            return lookup::referenced(kubernetes, &namespaces, &reference)
                .await
                .map(Some);
        }
        let of_namespace = lookup::of_namespace(kubernetes, &workflow.namespace).await?;
        let found = match (of_namespace, &self.controller_namespace) {
            (None, Some(namespace)) => lookup::of_controller(kubernetes, namespace).await?,
            (repository, _) => repository,
        };
        Ok(found.or_else(|| self.operator.clone()))
    }
}
