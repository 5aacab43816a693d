//! Claims: this replica becomes the owner of a TaskSet.
//!
//! A label on the TaskSet names the replica that owns it. The replica sets the label with the
//! version of the TaskSet as a precondition. If two replicas try, the API server refuses one of
//! them.

use serde_json::json;

use super::target::{REPLICA, Target, owner};
use crate::argo::task_set::{TaskSet, TaskSetMetadata, TemplateKinds};
use crate::argo::workflow::WorkflowObject;
use crate::kubernetes::{ApiError, Kubernetes, Metadata, Stored, Version};
use crate::step::Workflow;

/// Result of a claim.
#[derive(Debug)]
pub(super) enum Claim {
    /// This replica owns the TaskSet of the Workflow.
    Owned(Box<Stored<TaskSet>>, Box<WorkflowObject>),
    /// The TaskSet has no task for this replica at this generation.
    NotOurs(i64),
    /// The TaskSet does not exist any more, has ended, or belongs to another replica.
    Gone,
    /// The TaskSet has tasks for this replica at this generation, but it does not belong to a
    /// Workflow of its name.
    NoWorkflow(i64),
    /// The TaskSet has changed meanwhile, or the API server does not answer: try again.
    Failed(ApiError),
}

impl Claim {
    /// The result, for metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Owned(..) => "owned",
            Self::NotOurs(_) | Self::NoWorkflow(_) => "not_ours",
            Self::Gone => "gone",
            Self::Failed(error) if error.code() == Some(409) => "conflict",
            Self::Failed(_) => "failed",
        }
    }
}

/// Claims a TaskSet if it has tasks of these kinds, and its owner is still the one in `target`: no
/// replica, or a dead one.
pub(super) async fn claim(
    kubernetes: &Kubernetes,
    target: &Target,
    replica: &str,
    kinds: TemplateKinds,
) -> Claim {
    let Target {
        namespace, name, ..
    } = target;
    let stored = match kubernetes.read::<TaskSet>(namespace, name).await {
        Ok(stored) => stored,
        Err(error) => return failed(error),
    };
    let set = &stored.object;
    let generation = set.metadata.generation;
    if owner(&set.metadata) != target.owner.as_deref() || set.has_ended() {
        return Claim::Gone;
    }
    if !set.has_tasks(kinds) {
        return without_tasks(kubernetes, target, &set.metadata).await;
    }
    let workflow = kubernetes.read::<WorkflowObject>(namespace, name).await;
    let workflow = match workflow {
        Ok(workflow) => workflow.object,
        Err(error) if error.code() == Some(404) => return Claim::NoWorkflow(generation),
        Err(error) => return Claim::Failed(error),
    };
    // A tenant could name the Workflow of another tenant.
    let named = set.workflow();
    if named.is_none_or(|named| named.uid != workflow.metadata.uid) {
        return Claim::NoWorkflow(generation);
    }
    let patch = json!({"metadata": {
        "uid": set.metadata.uid,
        "resourceVersion": set.metadata.resource_version,
        "labels": {REPLICA: replica},
    }});
    match kubernetes.patch(namespace, name, None, &patch).await {
        Ok(stored) => Claim::Owned(Box::new(stored), Box::new(workflow)),
        Err(error) => failed(error),
    }
}

/// A TaskSet that has no task now. If a dead replica owns it, its label is removed: then the
/// replicas see the next task at once.
async fn without_tasks(kubernetes: &Kubernetes, target: &Target, read: &Metadata) -> Claim {
    if target.owner.is_none() {
        return Claim::NotOurs(read.generation);
    }
    let version = &read.resource_version;
    let patch = json!({"metadata": {
        "uid": read.uid, "resourceVersion": version, "labels": {REPLICA: null},
    }});
    let Target {
        namespace, name, ..
    } = target;
    let removed = kubernetes.patch::<TaskSetMetadata>(namespace, name, None, &patch);
    match removed.await {
        Ok(_) => Claim::Gone,
        Err(error) => failed(error),
    }
}

fn failed(error: ApiError) -> Claim {
    match error.code() {
        Some(404) => Claim::Gone,
        _ => Claim::Failed(error),
    }
}

/// Gives a TaskSet back: another replica can claim it. `version` is the version of the TaskSet in
/// which no task was left.
pub(super) async fn release(
    kubernetes: &Kubernetes,
    workflow: &Workflow,
    version: &Version,
) -> Result<(), ApiError> {
    let patch = json!({"metadata": {"resourceVersion": version, "labels": {REPLICA: null}}});
    let Workflow {
        namespace, name, ..
    } = workflow;
    let released = kubernetes.patch::<TaskSetMetadata>(namespace, name, None, &patch);
    match released.await {
        Err(error) if error.code() != Some(404) => Err(error),
        _ => Ok(()),
    }
}
