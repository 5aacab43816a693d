//! `agent`: settings for the calls of Argo's agent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::units::Time;

/// `agent`: settings for the calls of Argo's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentSettings {
    /// Longest time that the first call for an execution waits for its result.
    pub wait: Time,
    /// Time after which an execution is cancelled if no call asked for it.
    pub orphan_timeout: Time,
    /// Time between two checks of a Workflow that has running executions. The checks need access
    /// to the Kubernetes API.
    pub workflow_poll_interval: Time,
    /// Time between two patches that the agent makes to its task set; the agent reads it from
    /// `ARGO_AGENT_PATCH_RATE`.
    pub patch_rate: Time,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            wait: Time(Duration::from_secs(5)),
            orphan_timeout: Time(Duration::from_mins(5)),
            workflow_poll_interval: Time(Duration::from_secs(10)),
            patch_rate: Time(Duration::from_secs(10)),
        }
    }
}
