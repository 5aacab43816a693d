//! Which jobs there are, and whose call may take which.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::calls::{Done, Key};

/// How much too early the call may come that was asked for: clocks are not one.
const EARLY: Duration = Duration::from_millis(100);
/// How late it may come.
pub(super) const LATE: Duration = Duration::from_secs(30);

/// A step that runs, or has run.
#[derive(Debug)]
pub(super) struct Job<T> {
    pub(super) finished: watch::Receiver<Option<Done<T>>>,
    pub(super) cancel: CancellationToken,
    pub(super) started: Instant,
    /// Whether Argo waits for it no more.
    unwanted: Arc<AtomicBool>,
    /// Whether somebody got what it came to.
    consumed: AtomicBool,
    _counted: Arc<Counted>,
}

impl<T> Job<T> {
    pub(super) fn new(
        finished: watch::Receiver<Option<Done<T>>>,
        cancel: CancellationToken,
        unwanted: Arc<AtomicBool>,
        counted: Arc<Counted>,
    ) -> Self {
        let consumed = AtomicBool::new(false);
        Self {
            finished,
            cancel,
            started: Instant::now(),
            unwanted,
            consumed,
            _counted: counted,
        }
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }
}

/// One of the jobs that there are, wherever it is, and how many bytes of its result are kept.
#[derive(Debug)]
pub(super) struct Counted {
    all: Arc<Count>,
    bytes: AtomicUsize,
}

/// How many jobs there are, and how much they came to.
#[derive(Debug, Default)]
struct Count {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counted {
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.jobs.fetch_sub(1, Ordering::Relaxed);
        self.all
            .bytes
            .fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// A job that waits for a call.
#[derive(Debug)]
struct Waiting<T> {
    job: Arc<Job<T>>,
    /// When the call for it is to come. One that comes before is another node's.
    due: Instant,
    /// When it is given up.
    until: Instant,
    /// The same, once its own timeout ended it: Argo has failed its node, and makes no call for that but the one that was asked for.
    until_timed_out: Instant,
}

#[derive(Debug)]
pub(super) struct Table<T> {
    waiting: Mutex<HashMap<Key, VecDeque<Waiting<T>>>>,
    /// All jobs, those that calls hold too.
    count: Arc<Count>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            count: Arc::default(),
        }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.count.jobs.load(Ordering::Relaxed)
    }

    /// How many bytes they came to that nobody has got yet.
    pub(super) fn bytes(&self) -> usize {
        self.count.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) -> Arc<Counted> {
        self.count.jobs.fetch_add(1, Ordering::Relaxed);
        Arc::new(Counted {
            all: Arc::clone(&self.count),
            bytes: AtomicUsize::new(0),
        })
    }

    /// The job for these bytes whose call is due, or a new one if one may be started; and whether it is new. One that is alone stays for others, for as long
    /// as `orphan`.
    pub(super) fn adopt_or(
        &self,
        key: &Key,
        alone: bool,
        orphan: Duration,
        start: Option<impl FnOnce() -> Arc<Job<T>>>,
    ) -> Option<(Arc<Job<T>>, bool)> {
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !alone {
            let due = |jobs: &mut VecDeque<Waiting<T>>| {
                let at = jobs.iter().position(|waiting| waiting.due <= now + EARLY)?;
                jobs.remove(at).map(|waiting| waiting.job)
            };
            let job = waiting.get_mut(key).and_then(due);
            if waiting.get(key).is_some_and(VecDeque::is_empty) {
                waiting.remove(key);
            }
            return job
                .map(|job| (job, false))
                .or_else(|| start.map(|start| (start(), true)));
        }
        if let Some(there) = waiting.get_mut(key).and_then(|jobs| jobs.front_mut()) {
            there.until = now + orphan;
            there.until_timed_out = there.until;
            return Some((Arc::clone(&there.job), false));
        }
        let job = start?();
        let until = now + orphan;
        let entry = Waiting {
            job: Arc::clone(&job),
            due: now,
            until,
            until_timed_out: until,
        };
        waiting.insert(key.clone(), VecDeque::from([entry]));
        Some((job, true))
    }

    /// Leaves it for the next call, unless somebody got what it came to.
    fn put(&self, key: Key, waiting: Waiting<T>) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.job.consumed.load(Ordering::Relaxed) {
            return;
        }
        let jobs = all.entry(key).or_default();
        match jobs
            .iter_mut()
            .find(|there| Arc::ptr_eq(&there.job, &waiting.job))
        {
            Some(there) => *there = waiting,
            None => jobs.push_back(waiting),
        }
    }

    /// It is over.
    fn consume(&self, key: &Key, job: &Arc<Job<T>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        job.consumed.store(true, Ordering::Relaxed);
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
                let timed_out = waiting
                    .job
                    .finished
                    .borrow()
                    .as_ref()
                    .is_some_and(|done| done.finished.timed_out);
                let until = if timed_out {
                    waiting.until_timed_out
                } else {
                    waiting.until
                };
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

/// A job that a call holds. Dropped, it waits for the next call, unless somebody got what it came to.
#[derive(Debug)]
pub(super) struct Parked<T> {
    table: Arc<Table<T>>,
    key: Key,
    job: Arc<Job<T>>,
    orphan: Duration,
    /// When the next call is to come, if it was told.
    promised: Option<Duration>,
}

impl<T> Parked<T> {
    pub(super) fn new(table: Arc<Table<T>>, key: Key, job: Arc<Job<T>>, orphan: Duration) -> Self {
        Self {
            table,
            key,
            job,
            orphan,
            promised: None,
        }
    }

    pub(super) fn job(&self) -> &Job<T> {
        &self.job
    }

    /// Leaves it; the next call was asked to come after that time.
    pub(super) fn leave_for(mut self, time: Duration) {
        self.promised = Some(time);
    }

    /// Nobody gets it any more.
    pub(super) fn consume(&self) {
        self.table.consume(&self.key, &self.job);
    }
}

impl<T> Drop for Parked<T> {
    fn drop(&mut self) {
        let now = Instant::now();
        // Where a connection broke, the call comes as soon as it can.
        let due = self.promised.unwrap_or_default();
        let until = now + self.orphan.max(due + LATE);
        let until_timed_out = if self.promised.is_some() {
            now + due + LATE
        } else {
            until
        };
        let waiting = Waiting {
            job: Arc::clone(&self.job),
            due: now + due,
            until,
            until_timed_out,
        };
        self.table.put(self.key.clone(), waiting);
    }
}
