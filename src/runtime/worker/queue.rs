//! The queue of the compile workers: how many run at once, and with how much memory.
//!
//! Before a module is compiled, the memory that the compiler needs is not known. So the first
//! attempt gets an estimate from the size of the module. If the estimate was too low, a second
//! attempt gets the whole limit.
//!
//! - **Classes.** A class has the modules of one template. Workers are shared fairly between
//!   tenants and classes, and a part is reserved for tenants (or else classes) without a worker. So
//!   one of them with many slow modules delays no other one. If steps of several templates wait for
//!   one module, the module waits in all their classes, and starts in the class that is first.
//! - **Large attempts.** Attempts that need more than a quarter of the memory run one at a time, in
//!   turns between classes. They leave a quarter of the memory to small attempts.
//! - **Bytes.** The bytes of a module are read when its worker may start. Until then, the module
//!   uses no memory. The request for memory includes the bytes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::large_attempts::{LargeAttempt, LargeAttempts};
use super::process::{Failure, Used, Worker};
use super::protocol::{Job, STACK_BYTES};
use crate::runtime::admission::{Capacity, Class, SlotRequest};
use crate::runtime::code::{CodeDirectory, NewCode};
use crate::runtime::module_source::ModuleSource;
use crate::runtime::scheduler::{Scheduler, Slot};
use crate::sandbox::WorkerLimits;
use crate::step::CompileLimits;

/// Memory that a worker needs for a small module, in bytes.
const BASE_MEMORY: u64 = 56 << 20;
/// Memory that the compiler usually needs at most for each byte of a module, in bytes.
const MEMORY_PER_BYTE: u64 = 12;
/// Maximum number of threads of one worker. Each thread needs memory for its stack and its heap.
const MAX_THREADS: usize = 8;
/// Workers for each core. A worker that waits for memory or for its pipe leaves its core to others.
const WORKERS_PER_CORE: usize = 2;
/// A compilation that reached its time limit is starved if its processor time is below the time
/// limit divided by this number. A starved compilation is not remembered.
///
/// - A hostile module can be one large function. Only one thread compiles a function. So the rule
///   compares with the time of one core, and not of all cores.
/// - On a busy machine, a module is not remembered if one core can compile it within a quarter of
///   the time limit.
/// - A worker has a low priority. With a smaller number, the compilation of a hostile module would
///   be starved whenever steps use all cores.
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
    /// Maximum size of the machine code of one module, in bytes, if the code is only in memory.
    pub(in crate::runtime) code_in_memory: u64,
}

/// Starts compile workers.
#[derive(Debug)]
pub(in crate::runtime) struct Workers {
    program: PathBuf,
    /// Shares the memory of all workers.
    scheduler: Arc<Scheduler>,
    large_attempts: LargeAttempts,
    resources: WorkerResources,
    threads: usize,
}

/// The classes of the steps that wait for a module. The list grows when a step of another class
/// joins.
pub type Classes = watch::Receiver<Vec<Class>>;

/// The class of all large attempts in the scheduler. [`LargeAttempts`] shares them.
const LARGE: Class = Class {
    tenant: Some(u64::MAX),
    template: u64::MAX,
};

/// The right to run one worker. Dropping it releases the worker's share.
#[derive(Debug)]
struct Admitted {
    _worker: Slot,
    _large: Option<LargeAttempt>,
}

/// One module in the queue.
pub(in crate::runtime) struct Request<'a> {
    pub(in crate::runtime) classes: Classes,
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
            large_attempts: LargeAttempts::default(),
            resources,
            threads: resources.cores.clamp(1, MAX_THREADS),
        }
    }

    /// The limits that apply to a module of this many bytes. The worker and the bytes together have
    /// at most three quarters of the memory of all workers, with two exceptions:
    ///
    /// - The bytes are rounded down to whole megabytes, so that errors show a round limit.
    /// - A worker has at least [`BASE_MEMORY`]. With less memory, the worker could not even report
    ///   that the memory is too small.
    pub(in crate::runtime) fn effective(
        &self,
        limits: CompileLimits,
        module_bytes: u64,
    ) -> CompileLimits {
        CompileLimits {
            memory: limits.memory.min(self.most_memory(module_bytes)),
            ..limits
        }
    }

    /// The most memory that a worker for a module of this many bytes can have, in bytes.
    pub(in crate::runtime) fn most_memory(&self, module_bytes: u64) -> u64 {
        let whole_megabytes = module_bytes >> 20 << 20;
        // In a small container, a quarter is not enough for another module.
        let all = self.resources.memory;
        let most = (all / 4 * 3).min(all.saturating_sub(self.estimate(1 << 20)));
        most.saturating_sub(whole_megabytes).max(BASE_MEMORY)
    }

    /// Waits for a place in the queue, reads the module, and compiles the module.
    pub(in crate::runtime) async fn compile(
        &self,
        request: &Request<'_>,
    ) -> Result<NewCode, Failure> {
        let limits = self.effective(request.limits, request.module.size());
        // The bytes alone would use the memory of all workers.
        if request.module.size() > self.resources.memory / 2 {
            return Err(Failure::Memory);
        }
        let estimate = self.estimate(request.module.size()).min(limits.memory);
        let mut used = Used::default();
        let first = self.attempt_somewhere(request, estimate, &mut used).await;
        let ended = match first {
            Err(failure) if failure.may_be_a_lack_of_memory() && estimate < limits.memory => {
                let memory = limits.memory;
                self.attempt_somewhere(request, memory, &mut used).await
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

    /// Waits in all these classes until a worker with this much memory may run in one of them.
    async fn admit(&self, mut classes: Classes, memory: u64) -> Admitted {
        let mut waiting = FuturesUnordered::new();
        loop {
            let added = classes.borrow_and_update()[waiting.len()..].to_vec();
            waiting.extend(added.into_iter().map(|class| self.admit_in(class, memory)));
            tokio::select! {
                Some(admitted) = waiting.next() => return admitted,
                // An error means that no other step can join.
                Ok(()) = classes.changed() => {}
            }
        }
    }

    async fn admit_in(&self, class: Class, memory: u64) -> Admitted {
        // In a small container, the usual attempts are not large.
        let usual = self.estimate(1 << 20);
        let is_large = memory > usual.max(self.resources.memory / 4);
        // While a large attempt waits for its turn, it reserves no memory. After that, it does not
        // wait behind the small modules of its template.
        let (class, large) = match is_large {
            true => (LARGE, Some(self.large_attempts.acquire(class).await)),
            false => (class, None),
        };
        let request = SlotRequest { class, memory };
        Admitted {
            _worker: self.scheduler.acquire(request).await,
            _large: large,
        }
    }

    /// An attempt whose code is written into memory if the code directory is full.
    async fn attempt_somewhere(
        &self,
        request: &Request<'_>,
        memory: u64,
        used: &mut Used,
    ) -> Result<NewCode, Failure> {
        let directory = request.directory;
        let before = *used;
        match self.attempt(request, directory, memory, used).await {
            Err(Failure::Io(error)) if directory.is_some() && is_full(&error) => {
                tracing::warn!(%error, "the code directory is full: compiled code is kept in memory");
                // The module is not the cause of the first attempt's end.
                *used = before;
                self.attempt(request, None, memory, used).await
            }
            ended => ended,
        }
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        directory: Option<&Arc<CodeDirectory>>,
        memory: u64,
        used: &mut Used,
    ) -> Result<NewCode, Failure> {
        request.module.queued();
        // The bytes are in the memory of this process until the worker has read them.
        let with_bytes = memory.saturating_add(request.module.size());
        let admitted = self.admit(request.classes.clone(), with_bytes).await;
        // Both attempts together have the time limit. Waiting in the queue is not included.
        let time = request.limits.time.saturating_sub(used.time);
        if time.is_zero() {
            return Err(Failure::Time);
        }
        // A module that was removed from the store is downloaded again, from a server that may be
        // slow.
        let reading = tokio::time::timeout(request.limits.time, request.module.read()).await;
        let read = reading.map_err(|_| Failure::SlowRead)?;
        let module = read.map_err(Failure::Unreadable)?;
        let code = open(directory).await.map_err(Failure::Io)?;
        let max_code_bytes = match code {
            NewCode::OnDisk(_) => memory,
            NewCode::InMemory(_) => memory.min(self.resources.code_in_memory),
        };
        let job = Job {
            module_bytes: module.len() as u64,
            limits: WorkerLimits {
                memory,
                // The executor's own time limit usually ends the worker first.
                processor_seconds: (time.as_secs() + 1).saturating_mul(self.threads as u64),
            },
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

/// Whether the file system has no space, or the user has used up the quota.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
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

    fn class(template: u64) -> Class {
        let tenant = None;
        Class { tenant, template }
    }

    fn classes(templates: &[u64]) -> Classes {
        let all = templates.iter().copied().map(class).collect();
        watch::Sender::new(all).subscribe()
    }

    fn admitted(workers: &Workers, template: u64, memory: u64) -> Option<Admitted> {
        workers.admit(classes(&[template]), memory).now_or_never()
    }

    fn small(workers: &Workers, template: u64) -> Option<Admitted> {
        admitted(workers, template, workers.estimate(0))
    }

    #[test]
    fn the_estimate_has_a_stack_for_each_core_up_to_the_maximum() {
        let estimates = [1, 2, 8, 64].map(|cores| workers(cores).estimate(10) - 120);
        assert_eq!(estimates, [58, 60, 72, 72].map(|mib| mib * MIB));
    }

    #[test]
    fn one_module_may_use_at_most_three_quarters_of_the_memory_with_its_bytes() {
        let limits = CompileLimits {
            time: Duration::from_secs(1),
            memory: u64::MAX,
        };
        assert_eq!(workers(2).effective(limits, MIB - 1).memory, 384 * MIB);
        assert_eq!(workers(2).effective(limits, 84 * MIB).memory, 300 * MIB);
        assert_eq!(workers(2).effective(limits, 500 * MIB).memory, BASE_MEMORY);
    }

    #[tokio::test]
    async fn a_template_with_many_modules_leaves_a_worker_to_each_other_template() {
        for (cores, expected) in [(1, 3), (2, 3), (4, 7)] {
            let workers = workers(cores);
            let held: Vec<_> = (0..20).map_while(|_| small(&workers, 1)).collect();
            assert_eq!(held.len(), expected, "{cores} cores");
            let mut waiting: Vec<_> = (0..20)
                .map(|_| Box::pin(workers.admit(classes(&[1]), 50 * MIB)))
                .collect();
            for waiter in &mut waiting {
                assert!(futures::poll!(waiter).is_pending());
            }
            assert!(small(&workers, 2).is_some(), "{cores} cores");
        }
    }

    #[tokio::test]
    async fn a_module_starts_as_soon_as_one_of_the_waiting_templates_may_start_it() {
        let workers = workers(2);
        let held: Vec<_> = (0..20).map_while(|_| small(&workers, 1)).collect();
        let joined = watch::Sender::new(vec![class(1)]);
        let mut module = Box::pin(workers.admit(joined.subscribe(), 50 * MIB));
        assert!(futures::poll!(&mut module).is_pending());
        joined.send_modify(|classes| classes.push(class(2)));
        assert!(
            futures::poll!(&mut module).is_ready(),
            "a worker is reserved for the second template"
        );
        drop(module);
        drop(held);
        assert!(
            small(&workers, 1).is_some(),
            "no place in the queue is left over"
        );
    }

    #[tokio::test]
    async fn a_large_module_does_not_wait_behind_the_small_modules_of_its_templates() {
        let workers = workers(2);
        let held: Vec<_> = (0..20).map_while(|_| small(&workers, 1)).collect();
        assert_eq!(held.len(), 3);
        let mut queued: Vec<_> = (0..20)
            .map(|_| Box::pin(workers.admit(classes(&[1]), 50 * MIB)))
            .collect();
        for waiter in &mut queued {
            assert!(futures::poll!(waiter).is_pending());
        }
        let large = admitted(&workers, 1, 300 * MIB);
        assert!(large.is_some());
        let joined = watch::Sender::new(vec![class(1)]);
        let mut module = Box::pin(workers.admit(joined.subscribe(), 300 * MIB));
        assert!(futures::poll!(&mut module).is_pending());
        joined.send_modify(|classes| classes.push(class(2)));
        assert!(futures::poll!(&mut module).is_pending());
        drop(large);
        assert!(futures::poll!(&mut module).is_ready());
    }

    #[tokio::test]
    async fn usual_modules_are_compiled_at_once_in_a_small_container() {
        let resources = WorkerResources {
            memory: 192 * MIB,
            cores: 2,
            code_in_memory: MIB,
        };
        let workers = Workers::new("/nonexistent".into(), resources);
        let first = small(&workers, 1);
        assert!(first.is_some() && small(&workers, 2).is_some());
    }

    #[tokio::test]
    async fn large_attempts_run_one_at_a_time_and_small_attempts_run_beside_them() {
        let workers = workers(8);
        let limit = 384 * MIB;
        let large = admitted(&workers, 1, limit).unwrap();
        let mut other = Box::pin(workers.admit(classes(&[2]), 150 * MIB));
        assert!(futures::poll!(&mut other).is_pending());
        for _ in 0..10 {
            assert!(small(&workers, 3).is_some());
        }
        let mut same = Box::pin(workers.admit(classes(&[1]), limit));
        assert!(futures::poll!(&mut same).is_pending());
        drop(large);
        assert!(futures::poll!(&mut other).is_ready());
        drop(other);
        assert!(futures::poll!(&mut same).is_ready());
    }

    #[tokio::test]
    async fn large_attempts_of_one_template_do_not_delay_those_of_another() {
        let workers = workers(2);
        let large = admitted(&workers, 1, 300 * MIB).unwrap();
        let mut queued: Vec<_> = (0..8)
            .map(|_| Box::pin(workers.admit(classes(&[1]), 300 * MIB)))
            .collect();
        for waiter in &mut queued {
            assert!(futures::poll!(waiter).is_pending());
        }
        let mut other = Box::pin(workers.admit(classes(&[2]), 300 * MIB));
        assert!(futures::poll!(&mut other).is_pending());
        drop(large);
        // The next attempt of the first template is behind the other template's.
        assert!(futures::poll!(&mut queued[0]).is_pending());
        assert!(futures::poll!(&mut other).is_ready());
    }

    #[tokio::test]
    async fn large_attempts_wait_for_memory_without_delaying_small_attempts() {
        let workers = workers(8);
        let _held: Vec<_> = (0..2).map(|_| admitted(&workers, 1, 120 * MIB)).collect();
        let mut large = Box::pin(workers.admit(classes(&[2]), 384 * MIB));
        assert!(futures::poll!(&mut large).is_pending());
        assert!(small(&workers, 3).is_some());
    }
}
