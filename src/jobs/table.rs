//! Which jobs there are, and whose call may take which.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Finished, Key};

/// A step that runs, or has run.
#[derive(Debug)]
pub(super) struct Job<T> {
    pub(super) finished: watch::Receiver<Option<Finished<T>>>,
    pub(super) cancel: CancellationToken,
    pub(super) started: Instant,
    /// Whether somebody got what it came to.
    consumed: AtomicBool,
    _counted: Counted,
}

impl<T> Job<T> {
    pub(super) fn new(
        finished: watch::Receiver<Option<Finished<T>>>,
        cancel: CancellationToken,
        counted: Counted,
    ) -> Self {
        Self { finished, cancel, started: Instant::now(), consumed: AtomicBool::new(false), _counted: counted }
    }
}

/// One of the jobs that there are, wherever it is.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A job that no call holds.
#[derive(Debug)]
struct Waiting<T> {
    job: Arc<Job<T>>,
    /// When it is given up.
    until: Instant,
    /// The same, once its own timeout ended it: Argo has failed its node, and makes no call for that but the one that was asked for.
    until_timed_out: Instant,
}

#[derive(Debug)]
pub(super) struct Table<T> {
    waiting: Mutex<HashMap<Key, VecDeque<Waiting<T>>>>,
    /// All jobs, those that calls hold too.
    count: Arc<AtomicUsize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), count: Arc::default() }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) -> Counted {
        self.count.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.count))
    }

    /// The job for these bytes that has waited for longest. One that is alone stays for others.
    pub(super) fn adopt(&self, key: &Key, alone: bool) -> Option<Arc<Job<T>>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = waiting.get_mut(key)?;
        if alone {
            return jobs.front().map(|waiting| Arc::clone(&waiting.job));
        }
        // What is done is somebody's already.
        let done = jobs.iter().position(|waiting| waiting.job.finished.borrow().is_some());
        let job = jobs.remove(done.unwrap_or(0)).map(|waiting| waiting.job);
        if jobs.is_empty() {
            waiting.remove(key);
        }
        job
    }

    /// Leaves it for the next call.
    fn put(&self, key: Key, waiting: Waiting<T>) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = all.entry(key).or_default();
        match jobs.iter_mut().find(|there| Arc::ptr_eq(&there.job, &waiting.job)) {
            Some(there) => *there = waiting,
            None => jobs.push_back(waiting),
        }
    }

    /// It is over.
    fn remove(&self, key: &Key, job: &Arc<Job<T>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = waiting.get_mut(key) {
            jobs.retain(|waiting| !Arc::ptr_eq(&waiting.job, job));
            if jobs.is_empty() {
                waiting.remove(key);
            }
        }
    }

    /// Stops and forgets what nobody asked for in time.
    pub(super) fn sweep(&self, now: Instant) {
        let mut gone = Vec::new();
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, jobs| {
            jobs.retain(|waiting| {
                let timed_out = waiting.job.finished.borrow().as_ref().is_some_and(|finished| finished.timed_out);
                let until = if timed_out { waiting.until_timed_out } else { waiting.until };
                if until <= now {
                    gone.push(Arc::clone(&waiting.job));
                }
                until > now
            });
            !jobs.is_empty()
        });
        drop(all);
        for job in gone {
            let ran = job.started.elapsed().as_secs();
            tracing::warn!(ran, "nobody asked for a step any more: it is stopped");
            job.cancel.cancel();
        }
    }
}

/// A job that a call holds. Dropped, it waits for the next call, unless it was consumed.
#[derive(Debug)]
pub(super) struct Parked<T> {
    table: Arc<Table<T>>,
    key: Key,
    job: Arc<Job<T>>,
    orphan: Duration,
    /// When the next call is to come at the latest.
    expected: Option<Duration>,
}

impl<T> Parked<T> {
    pub(super) fn new(table: Arc<Table<T>>, key: Key, job: Arc<Job<T>>, alone: bool, orphan: Duration) -> Self {
        let parked = Self { table, key, job, orphan, expected: None };
        if alone {
            // Whoever else asks for this execution finds it.
            parked.leave();
        }
        parked
    }

    pub(super) fn job(&self) -> &Job<T> {
        &self.job
    }

    /// Leaves it; the next call was asked for.
    pub(super) fn expect_within(mut self, time: Duration) {
        self.expected = Some(time);
    }

    /// Nobody gets it any more.
    pub(super) fn consume(&self) {
        self.job.consumed.store(true, Ordering::Relaxed);
        self.table.remove(&self.key, &self.job);
    }

    fn leave(&self) {
        let now = Instant::now();
        let (until, expected) = (now + self.orphan, now + self.expected.unwrap_or(self.orphan).min(self.orphan));
        self.table.put(self.key.clone(), Waiting { job: Arc::clone(&self.job), until, until_timed_out: expected });
    }
}

impl<T> Drop for Parked<T> {
    fn drop(&mut self) {
        if !self.job.consumed.load(Ordering::Relaxed) {
            self.leave();
        }
    }
}
