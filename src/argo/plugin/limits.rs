//! The key `limits`: limits of the module, below those of the operator.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::step::{CompileLimits, StepLimits};
use crate::text::units::{ByteSize, Time};

/// `limits`. For a limit that is not set, the operator's limit applies.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::argo) struct RequestedLimits {
    /// Memory of the module, with its tables and the host's memory for its calls and handles.
    memory: Option<ByteSize>,
    /// Running time of the module.
    time: Option<Time>,
    /// Size of standard output, and separately of standard error.
    output: Option<ByteSize>,
    /// Disk space of the step's directory.
    disk: Option<ByteSize>,
    /// Compiling the module.
    compile: RequestedCompileLimits,
}

/// `limits.compile`: limits of the process that compiles the module.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RequestedCompileLimits {
    /// Running time of the process.
    time: Option<Time>,
    /// Memory of the process.
    memory: Option<ByteSize>,
}

/// The size of a page, the unit of linear memory
/// (<https://webassembly.github.io/spec/core/exec/runtime.html#memory-instances>).
const PAGE_BYTES: u64 = 64 << 10;

/// A limit that no module can run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImpossibleLimit {
    /// Key of the limit below `limits`.
    pub key: &'static str,
    /// The rule that the value breaks.
    pub rule: &'static str,
}

/// Whether no module can run with this much memory.
pub fn impossible_memory(memory: ByteSize) -> Option<ImpossibleLimit> {
    (memory.0 < PAGE_BYTES).then_some(ImpossibleLimit {
        key: "memory",
        rule: "must be at least 64Ki, one page of memory",
    })
}

/// Whether no module can run in this time.
pub fn impossible_time(time: Time) -> Option<ImpossibleLimit> {
    time.0.is_zero().then_some(ImpossibleLimit {
        key: "time",
        rule: "must be more than 0",
    })
}

impl RequestedLimits {
    /// A limit that no module can run with, and its rule.
    pub(super) fn impossible(&self) -> Option<ImpossibleLimit> {
        let memory = self.memory.and_then(impossible_memory);
        memory
            .or_else(|| self.time.and_then(impossible_time))
            .or_else(|| self.compile.impossible())
    }

    /// For each limit, the lower of the template's and the operator's.
    pub(in crate::argo) fn lowest(&self, operator: &StepLimits) -> StepLimits {
        let lower = |requested: Option<ByteSize>, limit: u64| {
            requested.map_or(limit, |requested| requested.0.min(limit))
        };
        let shorter = |requested: Option<Time>, limit: Duration| {
            requested.map_or(limit, |requested| requested.0.min(limit))
        };
        StepLimits {
            memory: lower(self.memory, operator.memory),
            time: shorter(self.time, operator.time),
            output: lower(self.output, operator.output),
            disk: lower(self.disk, operator.disk),
            compile: CompileLimits {
                time: shorter(self.compile.time, operator.compile.time),
                memory: lower(self.compile.memory, operator.compile.memory),
            },
            ..*operator
        }
    }
}

impl RequestedCompileLimits {
    fn impossible(&self) -> Option<ImpossibleLimit> {
        if self
            .time
            .is_some_and(|time| time.0 < CompileLimits::MIN_TIME)
        {
            return Some(ImpossibleLimit {
                key: "compile.time",
                rule: "must be at least 100ms, the least that the compiler needs",
            });
        }
        let too_little = |memory: ByteSize| memory.0 < CompileLimits::MIN_MEMORY;
        self.memory
            .is_some_and(too_little)
            .then_some(ImpossibleLimit {
                key: "compile.memory",
                rule: "must be at least 64Mi, the least that the compiler needs",
            })
    }
}
