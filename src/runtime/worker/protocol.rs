//! The messages between the executor and a compile worker.
//!
//! The executor writes to the worker's standard input: the [`Job`] as one line of JSON, and then
//! the bytes of the module. The executor keeps the pipe open until it has the reply. The end of the
//! pipe tells the worker that the executor ended.
//!
//! The worker writes to its standard output: the [`Reply`] as one line of JSON, and then the
//! machine code, if there is any.

use serde::{Deserialize, Serialize};

use crate::runtime::compile_error::Refusal;
use crate::sandbox::WorkerLimits;

/// Maximum length of the line of a message, in bytes.
pub(super) const MAX_LINE: u64 = 64 << 10;

/// Size of the stack of a thread that compiles, in bytes. The memory limit of a worker includes the
/// stacks.
pub(super) const STACK_BYTES: usize = 2 << 20;

/// What the worker has to do, and with which limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    /// Length of the module that follows, in bytes.
    pub(super) module_bytes: u64,
    /// Limits of the worker.
    pub(super) limits: WorkerLimits,
    /// Number of threads that compile.
    pub(super) threads: usize,
    /// Maximum length of the machine code, in bytes.
    pub(super) max_code_bytes: u64,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The module was compiled. Machine code of this length follows.
    Compiled {
        /// Length of the machine code, in bytes.
        code_bytes: u64,
    },
    /// The module cannot be compiled.
    Refused(Refusal),
    /// The module is valid, but the compiler reported an error. The cause may be a lack of memory.
    CompilerError(Refusal),
    /// The module's bytes or the compiler needed more memory than the limit.
    OutOfMemory,
    /// The machine code is longer than [`Job::max_code_bytes`].
    CodeTooLarge,
}
