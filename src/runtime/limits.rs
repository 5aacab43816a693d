//! The limits of one step and how they end a guest.
//!
//! | limit | enforced by | precision |
//! |---|---|---|
//! | memory, tables, instances | `limiter`, when they grow | exact |
//! | standard output and error | `output`, at each write | exact |
//! | time and cancellation, in guest code | [`LimitGuard::check`] | 10 ms |
//! | time and cancellation, in host calls | `run` | exact |
//! | disk usage, free disk space | [`LimitGuard::check`], sampled | see below |
//!
//! **Epoch interruption.** Compiled code compares the engine's epoch with the store's deadline
//! where a function or a loop begins. The `ticker` increments the epoch every 10 ms. After an
//! increment, the guest's thread calls [`LimitGuard::check`] and continues, or ends the guest with
//! a trap. A bulk instruction (`memory.fill`) is not interrupted. See
//! `wasmtime::Config::epoch_interruption`.
//!
//! **Disk quota.** A process without privileges cannot set a quota of the file system. So the
//! guest's thread measures the step's directory every 50 ms while guest code runs. The guest can
//! exceed the limit by the amount that it writes between two measurements.
//!
//! A large directory takes long to measure. So after each measurement, the guest runs for at least
//! four times as long as the measurement took. The possible overshoot grows accordingly.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::disk;

/// Limits of one step. Every limit has a value: there is no "unlimited".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLimits {
    /// Maximum of all linear memories of the step together, in bytes.
    pub memory: u64,
    /// Maximum wall-clock time of the module, guest code and host calls together.
    pub time: Duration,
    /// Maximum length of standard output, and also of standard error, in bytes.
    pub output: u64,
    /// Maximum size of the blocks in the step's directory, in bytes. Sampled every 50 ms.
    pub disk: u64,
    /// Maximum number of files and directories in the step's directory. Sampled like `disk`.
    pub entries: u64,
    /// Space that must stay free on the file system of the step's directory, in bytes. Sampled like
    /// `disk`.
    pub min_free_disk: u64,
}

/// Interval between two measurements of the step's directory.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// The reason why a guest was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The guest requested more memory, or larger tables, than allowed.
    #[error("memory limit exceeded")]
    Memory,
    /// The module ran longer than [`GuestLimits::time`].
    #[error("time limit exceeded")]
    Time,
    /// The deadline of the whole step has passed. The deadline is `Run::deadline`.
    #[error("deadline of the step exceeded")]
    Deadline,
    /// The guest wrote more to standard output or standard error than allowed.
    #[error("output limit exceeded")]
    Output,
    /// The step's directory holds more bytes or entries than allowed.
    #[error("disk limit exceeded")]
    Disk,
    /// The file system has less free space than [`GuestLimits::min_free_disk`]. Other steps or
    /// other programs may have filled it.
    #[error("the disk has too little free space")]
    DiskFree,
    /// The caller cancelled the run.
    #[error("cancelled")]
    Cancelled,
}

/// The time at which a guest is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// The reason to report: [`Stop::Time`] or [`Stop::Deadline`].
    pub(super) kind: Stop,
}

/// Enforces the limits of one run and records which limit ended it.
#[derive(Debug)]
pub(super) struct LimitGuard {
    limits: GuestLimits,
    deadline: Instant,
    deadline_kind: Stop,
    cancel: CancellationToken,
    directory: Option<PathBuf>,
    /// Time of the next measurement of the directory.
    next_sample: Mutex<Instant>,
    /// The first reason to stop the guest.
    stopped: OnceLock<Stop>,
}

impl LimitGuard {
    pub(super) fn new(
        limits: GuestLimits,
        deadline: Deadline,
        cancel: CancellationToken,
        directory: Option<PathBuf>,
    ) -> Self {
        Self {
            limits,
            deadline: deadline.at,
            deadline_kind: deadline.kind,
            cancel,
            directory,
            next_sample: Mutex::new(Instant::now() + SAMPLE_INTERVAL),
            stopped: OnceLock::new(),
        }
    }

    pub(super) fn limits(&self) -> &GuestLimits {
        &self.limits
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Records that the deadline has passed. Returns the first recorded reason.
    pub(super) fn deadline_exceeded(&self) -> Stop {
        self.stop(self.deadline_kind)
    }

    /// Records why the guest must stop. Returns the first recorded reason, which does not change.
    pub(super) fn stop(&self, stop: Stop) -> Stop {
        *self.stopped.get_or_init(|| stop)
    }

    /// Why the guest was stopped. `None` if no limit was exceeded.
    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stopped.get().copied()
    }

    /// Checks all limits that are not enforced elsewhere. The guest's thread calls this at each
    /// tick of the epoch.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if let Some(stop) = self.stopped() {
            return Err(stop);
        }
        if self.cancel.is_cancelled() {
            return Err(self.stop(Stop::Cancelled));
        }
        let now = Instant::now();
        if now >= self.deadline {
            return Err(self.deadline_exceeded());
        }
        self.check_disk(now)
    }

    fn check_disk(&self, now: Instant) -> Result<(), Stop> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let mut next_sample = self.next_sample.lock();
        if now < *next_sample {
            return Ok(());
        }
        let usage = disk::usage(directory, self.limits.entries);
        *next_sample = Instant::now() + SAMPLE_INTERVAL.max(now.elapsed() * 4);
        if usage.bytes > self.limits.disk || usage.entries > self.limits.entries {
            return Err(self.stop(Stop::Disk));
        }
        if usage.free < self.limits.min_free_disk {
            return Err(self.stop(Stop::DiskFree));
        }
        Ok(())
    }
}

#[cfg(test)]
impl LimitGuard {
    /// A guard with a limit of `memory` bytes and one second. It measures no directory.
    pub(super) fn for_test(memory: u64) -> Self {
        let limits = GuestLimits {
            memory,
            time: Duration::from_secs(1),
            output: 10,
            disk: 10,
            entries: 10,
            min_free_disk: 0,
        };
        let deadline = Deadline {
            at: Instant::now() + limits.time,
            kind: Stop::Time,
        };
        Self::new(limits, deadline, CancellationToken::new(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_stop_is_reported() {
        let guard = LimitGuard::for_test(1);
        assert_eq!(guard.check(), Ok(()));
        guard.cancel.cancel();
        assert_eq!(guard.check(), Err(Stop::Cancelled));
        assert_eq!(guard.stop(Stop::Time), Stop::Cancelled);
    }
}
