//! Claims: this replica becomes the owner of a TaskSet.
//!
//! A label on the TaskSet names the replica that owns it. The replica sets the label with the
//! version of the TaskSet as a precondition. If two replicas try, the API server refuses one of
//! them.

use serde_json::json;

use crate::argo::task_set::{TaskSet, TaskSetMetadata};
use crate::argo::workflow::WorkflowMetadata;
use crate::kubernetes::{ApiError, Kubernetes, Metadata, Stored};
use crate::step::Workflow;

/// The label with the id of the replica that owns a TaskSet.
pub(super) const REPLICA: &str = "wasm-workflow-executor/replica";

/// Result of a claim.
#[derive(Debug)]
pub(super) enum Claim {
    /// This replica owns the TaskSet.
    Owned(Box<Stored<TaskSet>>),
    /// The TaskSet has no task of this plugin, has ended, or belongs to another replica.
    NotOurs,
    /// The TaskSet has tasks of this plugin, but it does not belong to a Workflow of its name.
    NoWorkflow,
    /// The TaskSet has changed meanwhile, or the API server does not answer: try again.
    Failed(ApiError),
}

/// The replica that owns a TaskSet.
pub(super) fn owner(metadata: &Metadata) -> Option<&str> {
    metadata.labels.get(REPLICA).map(String::as_str)
}

/// Claims a TaskSet if it has tasks of this plugin, and its owner is still the one in `metadata`:
/// no replica, or a dead one.
pub(super) async fn claim(kubernetes: &Kubernetes, metadata: &Metadata, replica: &str) -> Claim {
    let Metadata {
        namespace, name, ..
    } = metadata;
    let (stored, workflow) = tokio::join!(
        kubernetes.read::<TaskSet>(namespace, name),
        kubernetes.read::<WorkflowMetadata>(namespace, name),
    );
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => return failed(error),
    };
    let set = &stored.object;
    let has_other_owner = owner(&set.metadata) != owner(metadata);
    if has_other_owner || set.has_ended() || !set.has_tasks_of_plugin() {
        return Claim::NotOurs;
    }
    let uid = match workflow {
        Ok(workflow) => Some(workflow.object.metadata.uid),
        Err(error) if error.code() == Some(404) => None,
        Err(error) => return Claim::Failed(error),
    };
    // A tenant could name the Workflow of another tenant.
    if set.workflow().is_none_or(|named| Some(named.uid) != uid) {
        return Claim::NoWorkflow;
    }
    let patch = json!({"metadata": {
        "uid": set.metadata.uid,
        "resourceVersion": set.metadata.resource_version,
        "labels": {REPLICA: replica},
    }});
    match kubernetes.patch(namespace, name, None, &patch).await {
        Ok(stored) => Claim::Owned(Box::new(stored)),
        Err(error) => failed(error),
    }
}

fn failed(error: ApiError) -> Claim {
    match error.code() {
        Some(404) => Claim::NotOurs,
        _ => Claim::Failed(error),
    }
}

/// Gives a TaskSet back: another replica can claim it. `version` is the version of the TaskSet in
/// which no task was left.
pub(super) async fn release(
    kubernetes: &Kubernetes,
    workflow: &Workflow,
    version: &str,
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
