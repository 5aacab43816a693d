//! The limits of one step and how they end a guest.
//!
//! | limit | enforced by | precision |
//! |---|---|---|
//! | memory, with tables | `limiter`, when they grow | exact |
//! | stacks of calls that wait | `limiter`, at each call into the module | an upper estimate: 2 MiB for each |
//! | memory of instances | `metadata`, before the module runs | an upper estimate |
//! | standard output and error | `output`, at each write | exact |
//! | handles, bytes that one host call copies | wasmtime, from `host_share` | exact |
//! | time and cancellation, in guest code and when a host call returns | [`LimitGuard::turn`] | 10 ms |
//! | time and cancellation, in a host call that waits | `run` | exact |
//! | disk usage, free disk space | [`LimitGuard::turn`], sampled | see below |
//!
//! **Points at which a step can end.** The `ticker` increments the epoch of the engines every
//! 10 ms. At the next point after an increment, the guest's thread calls [`LimitGuard::turn`]. The
//! guest then continues, or ends with a trap. There are two kinds of points:
//!
//! - Compiled code compares the engine's epoch with the store's deadline where a function or a loop
//!   begins, and in each part of a bulk instruction such as `memory.fill`. See
//!   `wasmtime::Config::epoch_interruption`.
//! - Every host function returns through `host_calls`, in every version of WASI. Host functions
//!   with large buffers work in parts, with such a point after each part (`wasi_0_1`).
//!
//! **Disk quota.** A process without privileges cannot set a quota of the file system. So the
//! guest's thread measures the step's directory every 50 ms, at the points above. The guest can
//! exceed the limit by the amount that it writes between two measurements.
//!
//! A large directory takes long to measure. So after each measurement, the guest runs for at least
//! four times as long as the measurement took. The possible overshoot grows accordingly.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::disk;
use super::ticker::TickCount;

/// Limits of one step. Every limit has a value: there is no "unlimited".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLimits {
    /// Maximum memory that the step can make resident in this process, in bytes: its linear
    /// memories, its tables and instances, and the host's memory for its calls and handles. See
    /// `host_share`.
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
    /// Size of the outcome that a module of the step world may return, in bytes. A larger outcome
    /// is accepted if `memory` has room for it.
    pub outcome: u64,
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
    /// The step's directory cannot be measured, for example because this process has no free
    /// descriptor.
    #[error("the step's directory cannot be measured: {0}")]
    Unmeasured(Errno),
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

/// How a guest continues at a point at which its step can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The guest continues at once.
    Continue,
    /// The guest yields first. A caller that polled the run on its own thread then moves the run to
    /// another thread. Each run yields once, at its first tick.
    Yield,
}

/// Enforces the limits of one run and records which limit ended it.
#[derive(Debug)]
pub(super) struct LimitGuard {
    limits: GuestLimits,
    deadline: Instant,
    deadline_kind: Stop,
    cancel: CancellationToken,
    directory: Option<PathBuf>,
    ticks: TickCount,
    /// Tick of the last call of `turn` that checked the limits.
    checked: AtomicU64,
    has_yielded: AtomicBool,
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
        ticks: TickCount,
    ) -> Self {
        Self {
            checked: AtomicU64::new(ticks.now()),
            ticks,
            has_yielded: AtomicBool::new(false),
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

    /// Checks the limits, if this is the first call since the last tick. The guest's thread calls
    /// this at each point at which the step can end.
    pub(super) fn turn(&self) -> Result<Turn, Stop> {
        if let Some(stop) = self.stopped() {
            return Err(stop);
        }
        let tick = self.ticks.now();
        if self.checked.load(Ordering::Relaxed) == tick {
            return Ok(Turn::Continue);
        }
        self.checked.store(tick, Ordering::Relaxed);
        self.check()?;
        if self.has_yielded.swap(true, Ordering::Relaxed) {
            Ok(Turn::Continue)
        } else {
            Ok(Turn::Yield)
        }
    }

    /// Does what [`LimitGuard::turn`] says. A host function that works in parts calls this after
    /// each part.
    pub(super) async fn pause(&self) -> Result<(), Stop> {
        if self.turn()? == Turn::Yield {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Checks all limits that are not enforced elsewhere.
    fn check(&self) -> Result<(), Stop> {
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
        let usage = usage.map_err(|error| self.stop(Stop::Unmeasured(error)))?;
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
            outcome: 0,
        };
        let deadline = Deadline {
            at: Instant::now() + limits.time,
            kind: Stop::Time,
        };
        Self::new(
            limits,
            deadline,
            CancellationToken::new(),
            None,
            TickCount::default(),
        )
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

    #[test]
    fn limits_are_checked_once_for_each_tick_and_the_guest_yields_at_the_first_tick() {
        let guard = LimitGuard::for_test(1);
        assert_eq!(guard.turn(), Ok(Turn::Continue), "before the first tick");
        guard.ticks.advance();
        assert_eq!(guard.turn(), Ok(Turn::Yield));
        guard.cancel.cancel();
        assert_eq!(guard.turn(), Ok(Turn::Continue), "in the same tick");
        guard.ticks.advance();
        assert_eq!(guard.turn(), Err(Stop::Cancelled));
        assert_eq!(guard.turn(), Err(Stop::Cancelled), "a stop is for good");
    }
}
