//! The pace of writes: how often, and how much of a TaskSet's results is written at once.
//!
//! Each write sends the whole object to etcd and to everything that watches it. So the results of a
//! wide workflow are written in batches:
//!
//! - The first result of a quiet TaskSet is written at once. It wakes the controller after the
//!   controller's requeue time.
//! - While other steps of the TaskSet run, the next write comes after half of the requeue time: the
//!   controller finds the results when it wakes.
//! - If no other step runs, the next write comes after a time that grows with the object, and at
//!   most after half of the requeue time.

use std::time::{Duration, Instant};

use super::backoff::backoff;
use super::ids::NodeId;
use super::index::Set;
use super::results::NodeReport;

/// Largest size of a TaskSet with its results, in bytes. etcd accepts 1.5 MiB.
const MAX_OBJECT: usize = 1_200_000;
/// A report of at most [`SMALL`] bytes is written if the object has at most this many bytes with
/// it.
const MAX_WITH_SMALL: usize = 1_400_000;
const SMALL: usize = 1 << 10;
/// Bytes of a report in the object, besides the report and the id of its node.
const OVERHEAD: usize = 16;
/// Shortest time between two writes.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// Delay after the first write that failed.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// The pace of one TaskSet.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the next write may begin. `None` before the first write.
    next: Option<Next>,
    is_writing: bool,
    failures: u32,
}

/// When the next write may begin.
#[derive(Clone, Copy, Debug)]
struct Next {
    /// While other steps of the TaskSet run.
    busy: Instant,
    /// If no other step runs.
    quiet: Instant,
}

impl Pace {
    /// When the next write may begin. `None` while a write is on its way. `is_busy` says whether
    /// other steps of the TaskSet run.
    pub(super) fn next(&self, is_busy: bool, now: Instant) -> Option<Instant> {
        let next = self.next.map(|next| match is_busy {
            true => next.busy,
            false => next.quiet,
        });
        (!self.is_writing).then(|| next.unwrap_or(now))
    }

    /// A write begins.
    pub(super) fn begin(&mut self) {
        self.is_writing = true;
    }

    /// A write has ended. The object has `bytes`, and the controller waits for `requeue_time`
    /// before it reads results.
    pub(super) fn succeeded(&mut self, bytes: usize, requeue_time: Duration, now: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "a size below 2^53")]
        let by_size = Duration::from_secs_f64(bytes as f64 / f64::from(1 << 20));
        let longest = (requeue_time / 2).max(MIN_INTERVAL);
        self.failures = 0;
        self.is_writing = false;
        self.next = Some(Next {
            busy: now + longest,
            quiet: now + by_size.clamp(MIN_INTERVAL, longest),
        });
    }

    /// The TaskSet has changed since its tasks were seen. The first time, the next write may begin
    /// at once.
    pub(super) fn conflicted(&mut self, now: Instant) {
        let delay = match self.failures {
            0 => Duration::ZERO,
            _ => MIN_INTERVAL,
        };
        self.retry_after(delay, now);
    }

    /// The API server did not answer, or refused the write for a reason that can pass.
    pub(super) fn failed(&mut self, now: Instant) {
        self.retry_after(backoff(FIRST_DELAY, self.failures), now);
    }

    fn retry_after(&mut self, delay: Duration, now: Instant) {
        self.failures += 1;
        self.is_writing = false;
        let at = now + delay;
        self.next = Some(Next {
            busy: at,
            quiet: at,
        });
    }
}

/// Selects the reports to write now, the smallest first. If nothing fits, and the controller will
/// not remove anything, the smallest report is tried: the API server decides.
pub(super) fn select(set: &Set) -> Vec<(NodeId, NodeReport)> {
    let mut unwritten: Vec<(NodeId, NodeReport)> = set
        .unwritten()
        .map(|(node, report)| (node.clone(), report))
        .collect();
    unwritten.sort_by_key(|(_, report)| report.bytes());
    let mut bytes = set.bytes();
    let mut selected = Vec::new();
    for (node, report) in unwritten {
        bytes += node.len() + report.bytes() + OVERHEAD;
        let most = match report.bytes() {
            ..=SMALL => MAX_WITH_SMALL,
            _ => MAX_OBJECT,
        };
        if bytes > most && (set.will_change() || !selected.is_empty()) {
            break;
        }
        selected.push((node, report));
        if bytes > most {
            break;
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::backoff::LAST_DELAY;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_write_is_at_once_and_the_next_one_waits_for_running_steps() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.next(true, start), Some(start));
        pace.begin();
        assert_eq!(pace.next(true, start), None, "one write at a time");
        pace.succeeded(1 << 10, 10 * SECOND, start);
        assert_eq!(pace.next(true, start), Some(start + 5 * SECOND));
        assert_eq!(pace.next(false, start), Some(start + MIN_INTERVAL));
    }

    #[test]
    fn a_large_object_is_written_less_often() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for (requeue_time, expected) in [(10 * SECOND, SECOND), (SECOND, SECOND / 2)] {
            pace.succeeded(1 << 20, requeue_time, start);
            assert_eq!(pace.next(false, start), Some(start + expected));
        }
    }

    #[test]
    fn only_the_first_conflict_is_tried_again_at_once() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.conflicted(start);
        assert_eq!(pace.next(true, start), Some(start));
        pace.conflicted(start);
        assert_eq!(pace.next(true, start), Some(start + MIN_INTERVAL));
        for _ in 0..20 {
            pace.failed(start);
        }
        assert_eq!(pace.next(true, start), Some(start + LAST_DELAY));
    }
}
