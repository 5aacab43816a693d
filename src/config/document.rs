//! The whole configuration document.

use serde::{Deserialize, Serialize};

use super::agent::AgentSettings;
use super::artifact_stores::Artifacts;
use super::cluster::ClusterSettings;
use super::limits::{Capacity, Limits};
use super::log::Telemetry;
use super::module_sources::Sources;
use super::namespaces::NamespaceSettings;
use crate::step::{CompileLimits, StepLimits};

/// The configuration document. Each section may be omitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Slots, memory and disk space of the whole executor.
    pub capacity: Capacity,
    /// Limits of each step.
    pub limits: Limits,
    /// How modules are fetched, and which modules may run.
    pub sources: Sources,
    /// Where artifacts are stored.
    pub artifacts: Artifacts,
    /// How the executor works with Argo's agent.
    pub agent: AgentSettings,
    /// How the executor serves a whole cluster.
    pub cluster: ClusterSettings,
    /// More rules, for the steps of some namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NamespaceSettings>,
    /// What the executor logs.
    pub telemetry: Telemetry,
}

impl Config {
    /// The limits of a step whose template sets none. `limits` are those of the operator.
    pub fn step_limits(&self, limits: &Limits) -> StepLimits {
        StepLimits {
            // A step reserves its memory limit. A larger limit than the capacity could never be
            // reserved.
            memory: limits.memory.0.min(self.capacity.memory.0),
            time: limits.time.0,
            output: limits.output.0,
            disk: limits.disk.0,
            entries: limits.entries,
            // The total time includes the running time, so it is not shorter.
            total: limits.total.0.max(limits.time.0),
            compile: CompileLimits {
                time: limits.compile.time.0,
                memory: limits
                    .compile
                    .memory
                    .0
                    .min(self.capacity.max_compile_memory()),
            },
        }
    }

    /// The memory of waiting requests and of results that wait for delivery, in bytes:
    /// `capacity.memory` / 20, between 32 MiB and 256 MiB. With the default capacity,
    /// this is 1/32 of the memory of the container.
    pub fn call_memory(&self) -> usize {
        let bytes = (self.capacity.memory.0 / 20).clamp(32 << 20, 256 << 20);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}
