//! The sections `limits`, for each step, and `capacity`, for the whole executor.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::cgroup;
use crate::step::OutputLimits;
use crate::text::units::{ByteSize, Time};

/// The rule for `capacity.steps`, as the text of its error.
pub(super) const STEPS_RANGE: &str = "must be between 1 and 1024";

/// `limits`: the default limits of each step, and the highest limits that a template can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of the module, with its tables and the host's memory for its calls and handles.
    pub memory: ByteSize,
    /// Running time of the module.
    pub time: Time,
    /// Time for fetching, staging and running together, without the time in the queue. A
    /// template's `timeout` can be shorter.
    pub total: Time,
    /// Size of standard output, and separately of standard error.
    pub output: ByteSize,
    /// Disk space of the step's directory, in allocated blocks.
    pub disk: ByteSize,
    /// Number of files and directories in the step's directory.
    pub entries: u64,
    /// Size of the node's message.
    pub message: ByteSize,
    /// Size of the node's `outputs.result`.
    pub result: ByteSize,
    /// Size of one output parameter, and of all output parameters together.
    pub parameter: ByteSize,
    /// Compiling the module.
    pub compile: CompileLimits,
}

/// `limits.compile`: limits of the process that compiles a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CompileLimits {
    /// Running time of the process.
    pub time: Time,
    /// Memory of the process. It gets at most three quarters of `capacity.compileMemory`.
    pub memory: ByteSize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            time: Time(Duration::from_mins(2)),
            memory: ByteSize(1 << 30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize(512 << 20),
            time: Time(Duration::from_hours(1)),
            total: Time(Duration::from_hours(2)),
            output: ByteSize(16 << 20),
            disk: ByteSize(1 << 30),
            entries: 100_000,
            message: ByteSize(1 << 10),
            result: ByteSize(64 << 10),
            parameter: ByteSize(256 << 10),
            compile: CompileLimits::default(),
        }
    }
}

impl Limits {
    /// Limits of the values that a step reports to Argo.
    pub fn outputs(&self) -> OutputLimits {
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        OutputLimits {
            message: bytes(self.message),
            result: bytes(self.result),
            parameter: bytes(self.parameter),
            parameters: bytes(self.parameter),
        }
    }
}

/// `capacity`: how much runs at once in the whole executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Capacity {
    /// Number of slots: steps that run at once.
    #[serde(deserialize_with = "steps")]
    pub steps: u32,
    /// Memory of all running modules together. Each step reserves its `limits.memory`, and
    /// waits in the queue until that much is free.
    pub memory: ByteSize,
    /// Memory of all processes that compile modules together.
    pub compile_memory: ByteSize,
    /// Disk space that must stay free in the scratch directory.
    pub min_free_disk: ByteSize,
}

/// Reads `capacity.steps`. The message is the same for a value of the wrong type and for a number
/// that is too large or too small.
fn steps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    u32::deserialize(deserializer).map_err(|_| de::Error::custom(STEPS_RANGE))
}

impl Capacity {
    /// The default capacity of an executor in a container with this number of cores and this memory
    /// limit.
    pub fn of_container(cores: usize, memory: ByteSize) -> Self {
        Self {
            steps: cgroup::default_slots(cores),
            memory: ByteSize(cgroup::default_memory(memory.0)),
            compile_memory: ByteSize(cgroup::default_compile_memory(memory.0)),
            min_free_disk: ByteSize(64 << 20),
        }
    }
}

impl Capacity {
    /// The memory that the compilation of one module may use, in bytes: three quarters of the
    /// memory for all. The rest is for small modules, so that they need not wait for it.
    pub fn max_compile_memory(&self) -> u64 {
        self.compile_memory.0 / 4 * 3
    }
}

impl Default for Capacity {
    fn default() -> Self {
        let memory = ByteSize(cgroup::memory_of_this_process());
        Self::of_container(cgroup::available_cores(), memory)
    }
}
