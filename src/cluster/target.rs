//! A TaskSet that can be claimed, and its owner.

use super::ids::SetUid;
use crate::kubernetes::{Metadata, Version};

/// The label with the id of the replica that owns a TaskSet.
pub(super) const REPLICA: &str = "wasm-workflow-executor/replica";

/// The replica that owns a TaskSet.
pub(super) fn owner(metadata: &Metadata) -> Option<&str> {
    metadata.labels.get(REPLICA).map(String::as_str)
}

/// A TaskSet, as far as a claim needs it. All TaskSets of the cluster can be candidates, so this is
/// small.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) uid: SetUid,
    pub(super) namespace: String,
    /// Name of the TaskSet and of its Workflow.
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) generation: i64,
    /// The replica that owns the TaskSet.
    pub(super) owner: Option<String>,
}

impl Target {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            uid: SetUid::of(metadata),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            version: metadata.resource_version.clone(),
            generation: metadata.generation,
            owner: owner(metadata).map(str::to_owned),
        }
    }
}
