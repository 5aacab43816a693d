//! What a guest may use, and what happens when it wants more.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wasmtime::ResourceLimiter;

use super::disk;

/// Limits of one step. All of them are always set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of the step together, in bytes.
    pub memory: u64,
    /// Wall-clock time for guest code and host calls.
    pub time: Duration,
    /// Standard output, and separately standard error, in bytes.
    pub output: u64,
    /// Blocks in the step's directory, in bytes. Sampled: a guest can write more for up to 50 ms.
    pub disk: u64,
    /// Files and directories in the step's directory. Sampled like `disk`.
    pub entries: u64,
    /// Bytes that must stay free on the scratch directory's file system.
    pub disk_free: u64,
}

/// How often the step's directory is measured while the guest runs.
pub(super) const SAMPLE: Duration = Duration::from_millis(50);
/// Elements in all tables of a step.
const TABLE_ELEMENTS: usize = 10_000_000;
const INSTANCES: usize = 1_000;

/// Why a guest was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// It wanted more memory than allowed.
    #[error("memory limit exceeded")]
    Memory,
    /// Its time is over.
    #[error("time limit exceeded")]
    Time,
    /// The time of all that it is a part of is over.
    #[error("the whole step's time is over")]
    Whole,
    /// It wrote more to standard output or error than allowed.
    #[error("output limit exceeded")]
    Output,
    /// It filled its directory.
    #[error("disk limit exceeded")]
    Disk,
    /// The machine's disk is nearly full, whoever filled it.
    #[error("too little of the disk is free")]
    DiskFree,
    /// Nobody wants the result any more.
    #[error("cancelled")]
    Cancelled,
}

impl Stop {
    const ALL: [Self; 7] = [
        Self::Memory,
        Self::Time,
        Self::Whole,
        Self::Output,
        Self::Disk,
        Self::DiskFree,
        Self::Cancelled,
    ];
}

/// Watches one step's limits. The guest's thread asks it at every tick of the epoch.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    deadline: Instant,
    /// Whose deadline that is.
    late: Stop,
    cancel: CancellationToken,
    directory: Option<PathBuf>,
    /// When the directory is to be measured next.
    sample: Mutex<Instant>,
    /// 0, or one more than the index in [`Stop::ALL`] of why the guest was stopped first.
    stopped: AtomicU8,
}

impl Watch {
    pub(super) fn new(
        limits: Limits,
        (deadline, late): (Instant, Stop),
        cancel: CancellationToken,
        directory: Option<PathBuf>,
    ) -> Self {
        let sample = Mutex::new(Instant::now() + SAMPLE);
        Self {
            limits,
            deadline,
            late,
            cancel,
            directory,
            sample,
            stopped: AtomicU8::new(0),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Notes that its time is over.
    pub(super) fn is_late(&self) -> Stop {
        self.stop(self.late)
    }

    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Notes why the guest has to stop; the first reason stays.
    pub(super) fn stop(&self, stop: Stop) -> Stop {
        let index = Stop::ALL
            .iter()
            .position(|other| *other == stop)
            .unwrap_or(0);
        let number = u8::try_from(index + 1).unwrap_or(u8::MAX);
        let _ = self
            .stopped
            .compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst);
        self.stopped().unwrap_or(stop)
    }

    /// Why the guest was stopped, if it was.
    pub(super) fn stopped(&self) -> Option<Stop> {
        let number = usize::from(self.stopped.load(Ordering::SeqCst));
        Stop::ALL.get(number.checked_sub(1)?).copied()
    }

    /// What the guest's thread does at every tick.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if let Some(stop) = self.stopped() {
            return Err(stop);
        }
        if self.cancel.is_cancelled() {
            return Err(self.stop(Stop::Cancelled));
        }
        let now = Instant::now();
        if now >= self.deadline {
            return Err(self.is_late());
        }
        self.check_disk(now)
    }

    fn check_disk(&self, now: Instant) -> Result<(), Stop> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        if now < *sample {
            return Ok(());
        }
        let usage = disk::usage(directory, self.limits.entries);
        // A large directory takes long to measure: the guest keeps at least four fifths of the time.
        *sample = Instant::now() + SAMPLE.max(now.elapsed() * 4);
        if usage.bytes > self.limits.disk || usage.entries > self.limits.entries {
            return Err(self.stop(Stop::Disk));
        }
        if usage.free < self.limits.disk_free {
            Err(self.stop(Stop::DiskFree))
        } else {
            Ok(())
        }
    }
}

/// Holds a store's instances, memories and tables to the limits.
#[derive(Debug)]
pub(super) struct Limiter {
    watch: Arc<Watch>,
    memory: u64,
    table_elements: usize,
}

impl Limiter {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self {
            watch,
            memory: 0,
            table_elements: 0,
        }
    }
}

impl ResourceLimiter for Limiter {
    /// Counts all memories together. Beyond the limit the guest ends, as a container does: a guest that is told "no" mostly
    /// ends in a confusing way of its own.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self
            .memory
            .saturating_sub(current as u64)
            .saturating_add(desired as u64);
        if wanted > self.watch.limits().memory {
            return Err(self.watch.stop(Stop::Memory).into());
        }
        self.memory = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self
            .table_elements
            .saturating_sub(current)
            .saturating_add(desired);
        if wanted > TABLE_ELEMENTS {
            return Err(self.watch.stop(Stop::Memory).into());
        }
        self.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        INSTANCES
    }

    fn memories(&self) -> usize {
        INSTANCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn watch(memory: u64) -> Arc<Watch> {
        let limits = Limits {
            memory,
            time: Duration::from_secs(1),
            output: 10,
            disk: 10,
            entries: 10,
            disk_free: 0,
        };
        let deadline = Instant::now() + limits.time;
        Arc::new(Watch::new(
            limits,
            (deadline, Stop::Time),
            CancellationToken::new(),
            None,
        ))
    }

    #[test]
    fn memories_count_together() {
        let watch = watch(100);
        let mut limiter = Limiter::new(Arc::clone(&watch));
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(limiter.memory_growing(40, 60, None).unwrap());
        assert!(
            !limiter.memory_growing(60, 200, Some(100)).unwrap(),
            "beyond the module's own maximum is no limit of ours"
        );
        assert!(limiter.memory_growing(0, 1, None).is_err());
        assert_eq!(watch.stopped(), Some(Stop::Memory));
    }

    #[test]
    fn the_first_reason_stays() {
        let watch = watch(1);
        assert_eq!(watch.check(), Ok(()));
        watch.cancel.cancel();
        assert_eq!(watch.check(), Err(Stop::Cancelled));
        assert_eq!(watch.stop(Stop::Time), Stop::Cancelled);
    }
}
