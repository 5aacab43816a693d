//! The queue of the compile workers: how many run at once, and with how much memory.
//!
//! Most modules need little memory, and some need much. The size of a module says little about the
//! memory. So the first attempt gets an estimate of the memory. If the estimate was too low, a
//! second attempt gets the whole limit. So a slow module with few bytes uses a small part of the
//! memory, and other modules are compiled at the same time.
//!
//! - **Classes.** A class has the modules of one template. Workers are shared fairly between
//!   classes, and a part is reserved for classes without a worker. So one template with many slow
//!   modules delays no other template.
//! - **Whole limits.** Second attempts run one at a time, in turns between classes. They leave a
//!   quarter of the memory to first attempts.
//! - **Bytes.** The bytes of a module are read when its worker may start. Until then, the module
//!   uses no memory. The request for memory includes the bytes.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;

use super::process::{Failure, Used, Worker};
use super::protocol::{Job, STACK_BYTES};
use crate::runtime::admission::{Capacity, SlotRequest};
use crate::runtime::code::{CodeDirectory, NewCode};
use crate::runtime::module_source::ModuleSource;
use crate::runtime::scheduler::{Scheduler, Slot};
use crate::step::CompileLimits;

/// Memory that a worker needs for a small module, in bytes.
const BASE_MEMORY: u64 = 48 << 20;
/// Memory that the compiler usually needs at most for each byte of a module, in bytes.
const MEMORY_PER_BYTE: u64 = 12;
/// Maximum number of threads of one worker. Each thread needs memory for its stack and its heap.
const MAX_THREADS: usize = 8;
/// Workers for each core. A worker that waits for memory or for its pipe leaves its core to others.
const WORKERS_PER_CORE: usize = 2;
/// A compilation that reached its time limit is starved if it used less processor time than the
/// time limit divided by this number.
///
/// - The time limit is compared with the time of one core. A hostile module can be one function,
///   which only one thread compiles.
/// - A module that needs less than a quarter of the time limit on one core is never remembered as
///   too slow, however busy the machine is.
/// - A worker has a low priority. With a smaller number here, a hostile module would not be
///   remembered while steps use all cores.
const STARVED_BELOW: u32 = 4;
/// With fewer workers, two slow modules would delay all others.
const MIN_WORKERS: usize = 4;

/// The machine that the workers share.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct WorkerResources {
    /// Memory of all workers together, in bytes.
    pub(in crate::runtime) memory: u64,
    /// Number of processors.
    pub(in crate::runtime) cores: usize,
    /// Maximum size of the machine code of a module that is kept in memory, in bytes.
    pub(in crate::runtime) code_in_memory: u64,
}

/// Starts compile workers.
#[derive(Debug)]
pub(in crate::runtime) struct Workers {
    program: PathBuf,
    /// Shares the memory of all workers.
    scheduler: Arc<Scheduler>,
    whole_limits: WholeLimits,
    resources: WorkerResources,
    threads: usize,
}

/// Whether an attempt has the estimated memory, or the whole limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    First,
    Second,
}

/// The right to run one worker. Dropping it releases the worker's share.
#[derive(Debug)]
struct Admitted {
    _worker: Slot,
    _whole_limit: Option<WholeLimit>,
}

/// Admits one second attempt at a time, in turns between classes: each class has at most one
/// attempt in the queue of all classes.
#[derive(Debug, Default)]
struct WholeLimits {
    all: Arc<AsyncMutex<()>>,
    classes: Mutex<HashMap<u64, Arc<AsyncMutex<()>>>>,
}

/// The right to run a second attempt.
#[derive(Debug)]
struct WholeLimit {
    _all: OwnedMutexGuard<()>,
    _class: OwnedMutexGuard<()>,
}

impl WholeLimits {
    async fn acquire(&self, class: u64) -> WholeLimit {
        let of_class = self.of_class(class).lock_owned().await;
        WholeLimit {
            _all: Arc::clone(&self.all).lock_owned().await,
            _class: of_class,
        }
    }

    fn of_class(&self, class: u64) -> Arc<AsyncMutex<()>> {
        let mut classes = self.classes.lock();
        // A guard and a waiter hold a reference to their lock. A lock without both is removed.
        classes.retain(|other, lock| *other == class || Arc::strong_count(lock) > 1);
        Arc::clone(classes.entry(class).or_default())
    }
}

/// One module in the queue.
pub(in crate::runtime) struct Request<'a> {
    /// Class of the module: its template.
    pub(in crate::runtime) class: u64,
    pub(in crate::runtime) module: &'a dyn ModuleSource,
    pub(in crate::runtime) limits: CompileLimits,
    /// Directory for the machine code. Without a directory, the code is written into memory.
    pub(in crate::runtime) directory: Option<&'a Arc<CodeDirectory>>,
}

impl Workers {
    /// `program` is this program's file.
    pub(in crate::runtime) fn new(program: PathBuf, resources: WorkerResources) -> Self {
        let workers = (resources.cores * WORKERS_PER_CORE).max(MIN_WORKERS);
        let capacity = Capacity {
            steps: u32::try_from(workers).unwrap_or(u32::MAX),
            memory: resources.memory,
        };
        Self {
            program,
            scheduler: Scheduler::new(capacity),
            whole_limits: WholeLimits::default(),
            resources,
            threads: resources.cores.clamp(1, MAX_THREADS),
        }
    }

    /// The limits that apply to a module: at most three quarters of the memory of all workers.
    pub(in crate::runtime) fn effective(&self, limits: CompileLimits) -> CompileLimits {
        let memory = self.resources.memory / 4 * 3;
        CompileLimits {
            memory: limits.memory.min(memory),
            ..limits
        }
    }

    /// Waits for a place in the queue, reads the module, and compiles the module.
    pub(in crate::runtime) async fn compile(
        &self,
        request: &Request<'_>,
    ) -> Result<NewCode, Failure> {
        let limits = self.effective(request.limits);
        let estimate = self.estimate(request.module.size()).min(limits.memory);
        let mut used = Used::default();
        let first = self
            .attempt(request, Attempt::First, estimate, &mut used)
            .await;
        let ended = match first {
            Err(failure) if failure.may_be_a_lack_of_memory() && estimate < limits.memory => {
                let second = self.attempt(request, Attempt::Second, limits.memory, &mut used);
                second.await
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

    /// Waits until a worker with this much memory may run.
    async fn admit(&self, class: u64, attempt: Attempt, memory: u64) -> Admitted {
        let whole_limit = match attempt {
            Attempt::First => None,
            // While the attempt waits here, it reserves no memory.
            Attempt::Second => Some(self.whole_limits.acquire(class).await),
        };
        let request = SlotRequest { class, memory };
        Admitted {
            _worker: self.scheduler.acquire(request).await,
            _whole_limit: whole_limit,
        }
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        attempt: Attempt,
        memory: u64,
        used: &mut Used,
    ) -> Result<NewCode, Failure> {
        request.module.queued();
        // The bytes are in the memory of this process until the worker has read them.
        let with_bytes = memory.saturating_add(request.module.size());
        let admitted = self.admit(request.class, attempt, with_bytes).await;
        // Both attempts together have the time limit. Waiting in the queue is not included.
        let time = request.limits.time.saturating_sub(used.time);
        // A module that was removed from the store is downloaded again, from a server that may be
        // slow.
        let reading = tokio::time::timeout(time, request.module.read()).await;
        let read = reading.unwrap_or_else(|elapsed| Err(Arc::new(elapsed)));
        let module = read.map_err(Failure::Unreadable)?;
        let code = open(request.directory).await.map_err(Failure::Io)?;
        let max_code_bytes = match code {
            NewCode::OnDisk(_) => memory,
            NewCode::InMemory(_) => memory.min(self.resources.code_in_memory),
        };
        let job = Job {
            module_bytes: module.len() as u64,
            memory,
            // The executor's own time limit usually ends the worker first.
            processor_seconds: (time.as_secs() + 1).saturating_mul(self.threads as u64),
            threads: self.threads,
            max_code_bytes,
        };
        let writer = code.file().map_err(Failure::Io)?;
        let worker = Worker {
            program: self.program.clone(),
            job,
            module,
            time,
            code: writer.into(),
            admitted,
        };
        let ended = worker.run().await;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const MIB: u64 = 1 << 20;
    const MEMORY: u64 = 512 * MIB;

    fn workers(cores: usize) -> Workers {
        let resources = WorkerResources {
            memory: MEMORY,
            cores,
            code_in_memory: MIB,
        };
        Workers::new("/nonexistent".into(), resources)
    }

    fn admitted(workers: &Workers, class: u64, attempt: Attempt, memory: u64) -> Option<Admitted> {
        workers.admit(class, attempt, memory).now_or_never()
    }

    fn first(workers: &Workers, class: u64) -> Option<Admitted> {
        admitted(workers, class, Attempt::First, workers.estimate(0))
    }

    #[test]
    fn the_estimate_has_a_stack_for_each_core_up_to_the_maximum() {
        let estimates = [1, 2, 8, 64].map(|cores| workers(cores).estimate(10) - 120);
        assert_eq!(estimates, [50, 52, 64, 64].map(|mib| mib * MIB));
    }

    #[test]
    fn one_module_may_use_at_most_three_quarters_of_the_memory() {
        let limits = CompileLimits {
            time: Duration::from_secs(1),
            memory: u64::MAX,
        };
        assert_eq!(workers(2).effective(limits).memory, 384 * MIB);
    }

    #[tokio::test]
    async fn a_template_with_many_modules_leaves_a_worker_to_each_other_template() {
        for (cores, expected) in [(1, 3), (2, 3), (4, 7)] {
            let workers = workers(cores);
            let held: Vec<_> = (0..20).map_while(|_| first(&workers, 1)).collect();
            assert_eq!(held.len(), expected, "{cores} cores");
            let mut waiting: Vec<_> = (0..20)
                .map(|_| Box::pin(workers.admit(1, Attempt::First, 50 * MIB)))
                .collect();
            for waiter in &mut waiting {
                assert!(futures::poll!(waiter).is_pending());
            }
            assert!(first(&workers, 2).is_some(), "{cores} cores");
        }
    }

    #[tokio::test]
    async fn second_attempts_run_one_at_a_time_and_first_attempts_run_beside_them() {
        let workers = workers(8);
        let limit = 384 * MIB;
        let whole = admitted(&workers, 1, Attempt::Second, limit).unwrap();
        let mut other = Box::pin(workers.admit(2, Attempt::Second, 50 * MIB));
        assert!(futures::poll!(&mut other).is_pending());
        for _ in 0..10 {
            assert!(first(&workers, 3).is_some());
        }
        let mut same = Box::pin(workers.admit(1, Attempt::Second, limit));
        assert!(futures::poll!(&mut same).is_pending());
        drop(whole);
        assert!(futures::poll!(&mut other).is_ready());
        assert!(
            futures::poll!(&mut same).is_ready(),
            "the other attempt has ended"
        );
    }

    #[tokio::test]
    async fn second_attempts_of_one_template_do_not_delay_those_of_another() {
        let workers = workers(2);
        let whole = admitted(&workers, 1, Attempt::Second, 300 * MIB).unwrap();
        let mut queued: Vec<_> = (0..8)
            .map(|_| Box::pin(workers.admit(1, Attempt::Second, 300 * MIB)))
            .collect();
        for waiter in &mut queued {
            assert!(futures::poll!(waiter).is_pending());
        }
        let mut other = Box::pin(workers.admit(2, Attempt::Second, 300 * MIB));
        assert!(futures::poll!(&mut other).is_pending());
        drop(whole);
        // The next attempt of the first template is behind the other template's.
        assert!(futures::poll!(&mut queued[0]).is_pending());
        assert!(futures::poll!(&mut other).is_ready());
    }

    #[tokio::test]
    async fn second_attempts_wait_for_memory_without_delaying_small_first_attempts() {
        let workers = workers(8);
        let _large = admitted(&workers, 1, Attempt::First, 200 * MIB).unwrap();
        let mut whole = Box::pin(workers.admit(2, Attempt::Second, 384 * MIB));
        assert!(futures::poll!(&mut whole).is_pending());
        assert!(first(&workers, 3).is_some());
    }
}
