//! Claims: this replica becomes the owner of a TaskSet.
//!
//! A label on the TaskSet names the replica that owns it. The replica sets the label with the
//! version of the TaskSet as a precondition. If two replicas try, the API server refuses one of
//! them.

use serde_json::json;

use super::target::{REPLICA, Target, owner};
use crate::argo::task_set::{TaskSet, TaskSetMetadata};
use crate::argo::workflow::WorkflowObject;
use crate::kubernetes::{ApiError, Kubernetes, Stored, Version};
use crate::step::Workflow;

/// Result of a claim.
#[derive(Debug)]
pub(super) enum Claim {
    /// This replica owns the TaskSet of the Workflow.
    Owned(Box<Stored<TaskSet>>, Box<WorkflowObject>),
    /// The TaskSet has no task of this plugin, has ended, or belongs to another replica.
    NotOurs,
    /// The TaskSet has tasks of this plugin, but it does not belong to a Workflow of its name.
    NoWorkflow,
    /// The TaskSet has changed meanwhile, or the API server does not answer: try again.
    Failed(ApiError),
}

impl Claim {
    /// The result, for metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Owned(..) => "owned",
            Self::NotOurs | Self::NoWorkflow => "not_ours",
            Self::Failed(error) if error.code() == Some(409) => "conflict",
            Self::Failed(_) => "failed",
        }
    }
}

/// Claims a TaskSet if it has tasks of this plugin, and its owner is still the one in `target`: no
/// replica, or a dead one.
pub(super) async fn claim(kubernetes: &Kubernetes, target: &Target, replica: &str) -> Claim {
    let Target {
        namespace, name, ..
    } = target;
    let (stored, workflow) = tokio::join!(
        kubernetes.read::<TaskSet>(namespace, name),
        kubernetes.read::<WorkflowObject>(namespace, name),
    );
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => return failed(error),
    };
    let set = &stored.object;
    let has_other_owner = owner(&set.metadata) != target.owner.as_deref();
    if has_other_owner || set.has_ended() || !set.has_tasks_of_plugin() {
        return Claim::NotOurs;
    }
    let workflow = match workflow {
        Ok(workflow) => workflow.object,
        Err(error) if error.code() == Some(404) => return Claim::NoWorkflow,
        Err(error) => return Claim::Failed(error),
    };
    // A tenant could name the Workflow of another tenant.
    let named = set.workflow();
    if named.is_none_or(|named| named.uid != workflow.metadata.uid) {
        return Claim::NoWorkflow;
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
