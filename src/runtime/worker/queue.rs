//! The queue of the compile workers: how many run at once, and with how much memory.
//!
//! Most modules need little memory, and some need much. The size of a module says little about the
//! memory. So the first attempt gets an estimate of the memory. If the estimate was too low, a
//! second attempt gets the whole limit. So a slow module with few bytes uses a small part of the
//! memory, and other modules are compiled at the same time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::process::{Attempt, Failure, Used};
use super::protocol::{Job, STACK_BYTES};
use crate::runtime::admission::{Capacity, SlotRequest};
use crate::runtime::code::{CodeDirectory, NewCode};
use crate::runtime::scheduler::Scheduler;
use crate::step::CompileLimits;

/// Memory that a worker needs for a small module, in bytes.
const BASE_MEMORY: u64 = 48 << 20;
/// Memory that the compiler usually needs at most for each byte of a module, in bytes.
const MEMORY_PER_BYTE: u64 = 12;
/// Maximum number of threads of one worker. Each thread needs memory for its stack and its heap.
const MAX_THREADS: usize = 8;
/// Workers for each core. A worker that waits for memory or for its pipe leaves its core to others.
const WORKERS_PER_CORE: usize = 2;
/// A compilation that reached its time limit is starved if it used less processor time than the time
/// limit divided by this number. The limit is counted for one core, because most of a hostile module
/// can be one function, which one thread compiles. So a module that needs less than half of the time
/// limit on one core is never remembered as too slow, however busy the machine is.
const STARVED_BELOW: u32 = 2;
/// With fewer workers, two slow modules would delay all others.
const MIN_WORKERS: usize = 4;

/// Starts compile workers.
#[derive(Debug)]
pub(in crate::runtime) struct Workers {
    program: PathBuf,
    /// Shares the memory of all workers. It is fair between modules, and lets small modules start
    /// before a large one that waits for memory.
    scheduler: Arc<Scheduler>,
    memory: u64,
    threads: usize,
}

impl Workers {
    /// `program` is this program's file. `memory` is the memory of all workers together, in bytes.
    pub(in crate::runtime) fn new(program: PathBuf, memory: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = (cores * WORKERS_PER_CORE).max(MIN_WORKERS);
        let capacity = Capacity {
            steps: u32::try_from(workers).unwrap_or(u32::MAX),
            memory,
        };
        Self {
            program,
            scheduler: Scheduler::new(capacity),
            memory,
            threads: cores.min(MAX_THREADS),
        }
    }

    /// The limits that a module really has: at most the memory of all workers.
    pub(in crate::runtime) fn effective(&self, limits: CompileLimits) -> CompileLimits {
        CompileLimits {
            memory: limits.memory.min(self.memory),
            ..limits
        }
    }

    /// Waits for a place in the queue, and compiles the module. `class` identifies the module.
    /// The machine code is written into a file in `directory`, or in memory if there is none.
    pub(in crate::runtime) async fn compile(
        &self,
        class: u64,
        module: &Bytes,
        limits: CompileLimits,
        directory: Option<&Arc<CodeDirectory>>,
    ) -> Result<NewCode, Failure> {
        let limits = self.effective(limits);
        let estimate = self.estimate(module.len() as u64).min(limits.memory);
        let mut used = Used::default();
        let first = self
            .attempt(class, module, limits, estimate, directory, &mut used)
            .await;
        let ended = match first {
            Err(failure) if failure.may_be_a_lack_of_memory() && estimate < limits.memory => {
                let memory = limits.memory;
                self.attempt(class, module, limits, memory, directory, &mut used)
                    .await
            }
            ended => ended,
        };
        match ended {
            Err(Failure::Time) if used.processor < limits.time / STARVED_BELOW => {
                let processor = used.processor;
                Err(Failure::Starved { processor })
            }
            ended => ended,
        }
    }

    /// The memory that a module of this many bytes usually needs, in bytes.
    fn estimate(&self, module_bytes: u64) -> u64 {
        let stacks = self.threads as u64 * STACK_BYTES as u64;
        let base = BASE_MEMORY.saturating_add(stacks);
        base.saturating_add(module_bytes.saturating_mul(MEMORY_PER_BYTE))
    }

    async fn attempt(
        &self,
        class: u64,
        module: &Bytes,
        limits: CompileLimits,
        memory: u64,
        directory: Option<&Arc<CodeDirectory>>,
        used: &mut Used,
    ) -> Result<NewCode, Failure> {
        let slot = self.scheduler.acquire(SlotRequest { class, memory }).await;
        // Both attempts together have the time limit. Waiting for a slot is not included.
        let time = limits.time.saturating_sub(used.time);
        let job = Job {
            module_bytes: module.len() as u64,
            memory,
            // The executor's own time limit usually ends the worker first.
            processor_seconds: (time.as_secs() + 1).saturating_mul(self.threads as u64),
            threads: self.threads,
        };
        let code = open(directory).await.map_err(Failure::Io)?;
        let writer = code.file().map_err(Failure::Io)?;
        let attempt = Attempt {
            program: self.program.clone(),
            job,
            module: module.clone(),
            time,
            code: writer.into(),
            slot,
        };
        let ended = attempt.run().await;
        used.time += ended.used.time;
        used.processor += ended.used.processor;
        ended.result.map(|()| code)
    }
}

/// An empty file for the machine code. If the file cannot be created in the directory, it is
/// created in memory.
async fn open(directory: Option<&Arc<CodeDirectory>>) -> io::Result<NewCode> {
    let Some(directory) = directory.cloned() else {
        return NewCode::in_memory();
    };
    let created = spawn_blocking(move || directory.create()).await?;
    created.or_else(|error| {
        tracing::warn!(%error, "cannot store compiled code in the code directory");
        NewCode::in_memory()
    })
}
