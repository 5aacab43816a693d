//! What a step may use and report.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of one step: for each of them, the lower of the template's value and the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// Memory that the module can make resident, in bytes: linear memories, tables, and the host's
    /// memory for its calls and handles.
    pub memory: u64,
    /// Wall-clock time in the module, host calls included.
    pub time: Duration,
    /// Standard output, and separately standard error, in bytes.
    pub output: u64,
    /// Blocks in the step's directory, in bytes.
    pub disk: u64,
    /// Number of files and directories in the step's directory.
    pub entries: u64,
    /// Wall-clock time of all stages together, without waiting for a slot. Always the operator's.
    pub total: Duration,
    /// Limits of compiling the module, if it is not compiled yet.
    pub compile: CompileLimits,
}

/// Limits of compiling one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CompileLimits {
    /// Wall-clock time of the compile worker, without waiting for its place in the queue.
    pub time: Duration,
    /// Memory of the compile worker, in bytes.
    pub memory: u64,
}

impl CompileLimits {
    /// Time in which the compiler can compile a small module. Within less time, a worker cannot
    /// even start on a busy machine.
    pub const MIN_TIME: Duration = Duration::from_millis(100);
    /// Memory with which the compiler can compile a small module, in bytes.
    pub const MIN_MEMORY: u64 = 64 << 20;
}

/// Limits on what a step reports. One oversized result would turn every node in Argo's batch into
/// an error, because the agent writes the batch into one Kubernetes object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// The message, in bytes. A longer message is cut.
    pub message: usize,
    /// `outputs.result`, in bytes. A longer result loses its beginning.
    pub result: usize,
    /// The value of one parameter, in bytes. A larger value fails the step.
    pub parameter: usize,
    /// The values of all parameters together, in bytes. Larger values fail the step.
    pub parameters: usize,
}

/// Room for the names, paths and lengths of the outputs in an outcome, in bytes.
const NAMES: u64 = 128 << 10;

impl OutputLimits {
    /// Size of an outcome that uses all of these limits, in bytes.
    pub fn outcome(&self) -> u64 {
        let values = [self.message, self.result, self.parameters];
        values
            .into_iter()
            .fold(NAMES, |sum, value| sum.saturating_add(value as u64))
    }
}
