//! Results of tasks, as they are written into a TaskSet.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::argo::{NodePhase, NodeResult, Reply};

/// The state of a node, ready to be written into a TaskSet.
#[derive(Clone, Debug)]
pub(super) struct NodeReport {
    phase: NodePhase,
    json: Arc<RawValue>,
}

impl NodeReport {
    /// The report of a step that has ended.
    pub(super) fn of(reply: Reply) -> Self {
        let node = reply.node.unwrap_or_default();
        Self {
            phase: node.phase.unwrap_or(NodePhase::Error),
            json: json(&node),
        }
    }

    /// The report of a step that runs.
    pub(super) fn running() -> Self {
        Self {
            phase: NodePhase::Running,
            json: json(&NodeResult {
                phase: Some(NodePhase::Running),
                ..NodeResult::default()
            }),
        }
    }

    /// Whether the step has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.phase != NodePhase::Running
    }

    /// Whether the step has succeeded.
    pub(super) fn has_succeeded(&self) -> bool {
        self.phase == NodePhase::Succeeded
    }

    /// The report as JSON: Argo's `NodeResult`.
    pub(super) fn json(&self) -> &RawValue {
        &self.json
    }

    /// Size of the JSON, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.json.get().len()
    }
}

impl PartialEq for NodeReport {
    fn eq(&self, other: &Self) -> bool {
        self.json.get() == other.json.get()
    }
}

fn json(node: &NodeResult) -> Arc<RawValue> {
    let json = serde_json::value::to_raw_value(node);
    // The types have only texts and numbers, so this does not fail.
    json.unwrap_or_else(|_| RawValue::NULL.to_owned()).into()
}
