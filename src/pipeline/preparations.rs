//! Single flight for compiling modules: many steps wait for one module, one task compiles it, and
//! all steps get the result.
//!
//! The task is not a part of any step, so it continues when the step that started it is cancelled.
//! A watch channel reports the task's progress to the waiting steps. [`Preparations`] does not keep
//! the results. The cache of compiled modules keeps them.
//!
//! Each step has a class: its template. The task knows the classes of all steps that have joined.
//!
//! The task can find out that no step waits any more ([`Reporter::abandoned`]). The preparation is
//! then removed, and the next step starts a new one.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Instrument;

use crate::runtime::{Class, Classes};

/// Progress of a preparation.
#[derive(Clone, Debug)]
pub(super) enum Progress<T> {
    /// The module waits for a compile worker.
    Queued,
    /// The module is being compiled, with this time limit.
    Compiling(Duration),
    /// The preparation ended.
    Ended(T),
}

/// A running preparation, as a handle for the steps that wait for it.
#[derive(Clone, Debug)]
pub(super) struct Preparation<T> {
    progress: watch::Receiver<Progress<T>>,
    /// Whether this handle's step started the preparation.
    pub(super) is_own: bool,
}

/// How the wait for a preparation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Waited<T> {
    /// The preparation ended.
    Ended(T),
    /// The step's own time limit is shorter than the limit of the preparation, and was reached.
    TimedOut,
    /// The task panicked.
    Panicked,
}

impl<T: Clone> Preparation<T> {
    /// Waits until the preparation ends, or until the compilation has taken the time `limit`. The
    /// limit has no effect if the preparation has the same limit or a shorter one.
    pub(super) async fn ended(mut self, limit: Duration) -> Waited<T> {
        let mut used = Duration::ZERO;
        loop {
            let progress = self.progress.borrow_and_update().clone();
            let changed = match progress {
                Progress::Ended(result) => return Waited::Ended(result),
                // A second attempt continues with the time of the first one.
                Progress::Compiling(longer) if longer > limit => {
                    let started = Instant::now();
                    let left = limit.saturating_sub(used);
                    let changed = tokio::time::timeout(left, self.progress.changed()).await;
                    used += started.elapsed();
                    match changed {
                        Ok(changed) => changed,
                        Err(_) => return Waited::TimedOut,
                    }
                }
                Progress::Queued | Progress::Compiling(_) => self.progress.changed().await,
            };
            if changed.is_err() {
                return Waited::Panicked;
            }
        }
    }
}

type Running<K, T> = Arc<Mutex<HashMap<K, Entry<T>>>>;

/// The senders of a preparation that runs.
#[derive(Debug)]
struct Entry<T> {
    progress: watch::Sender<Progress<T>>,
    classes: watch::Sender<Vec<Class>>,
}

impl<T> Entry<T> {
    fn add_class(&self, class: Class) {
        self.classes.send_if_modified(|classes| {
            let is_new = !classes.contains(&class);
            if is_new {
                classes.push(class);
            }
            is_new
        });
    }
}

/// The preparations that run, by key.
#[derive(Debug)]
pub(super) struct Preparations<K, T> {
    running: Running<K, T>,
}

impl<K, T> Default for Preparations<K, T> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
        }
    }
}

impl<K, T> Preparations<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins a preparation that runs and whose key `serves` this step, or starts `work` as a new
    /// one for `key`. The work reports its progress. `class` is the class of the step.
    pub(super) fn join<F>(
        &self,
        key: K,
        serves: impl Fn(&K) -> bool,
        class: Class,
        work: impl FnOnce(Reporter<K, T>) -> F,
    ) -> Preparation<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some((_, entry)) = running.iter().find(|(known, _)| serves(known)) {
            entry.add_class(class);
            return Preparation {
                progress: entry.progress.subscribe(),
                is_own: false,
            };
        }
        let (progress, receiver) = watch::channel(Progress::Queued);
        let (classes, joined) = watch::channel(vec![class]);
        let entry = Entry {
            progress: progress.clone(),
            classes,
        };
        running.insert(key.clone(), entry);
        let work = work(Reporter {
            running: Arc::clone(&self.running),
            key,
            progress,
            classes: joined,
        });
        tokio::spawn(work.in_current_span());
        Preparation {
            progress: receiver,
            is_own: true,
        }
    }
}

/// The task's handle to its preparation. Dropping it removes the preparation from the map, also
/// after a panic.
#[derive(Debug)]
pub(super) struct Reporter<K: Eq + Hash, T> {
    running: Running<K, T>,
    key: K,
    progress: watch::Sender<Progress<T>>,
    classes: Classes,
}

impl<K: Eq + Hash, T> Reporter<K, T> {
    /// The classes of all steps that have joined.
    pub(super) fn classes(&self) -> Classes {
        self.classes.clone()
    }

    /// Reports the progress to the waiting steps.
    pub(super) fn report(&self, progress: Progress<T>) {
        self.progress.send_replace(progress);
    }

    /// Reports the end. A step that joins later starts a new preparation.
    pub(super) fn end(self, result: T) {
        self.remove(&mut self.running.lock());
        self.report(Progress::Ended(result));
    }

    /// Waits until no step waits for the preparation, and removes the preparation.
    pub(super) async fn abandoned(&self) {
        loop {
            self.progress.closed().await;
            let mut running = self.running.lock();
            // A step may have joined meanwhile. Steps join only while they hold the lock.
            if self.progress.is_closed() {
                self.remove(&mut running);
                return;
            }
        }
    }

    /// Removes this preparation, and not a later one with the same key.
    fn remove(&self, running: &mut HashMap<K, Entry<T>>) {
        let own = running.get(&self.key);
        if own.is_some_and(|entry| entry.progress.same_channel(&self.progress)) {
            running.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Reporter<K, T> {
    fn drop(&mut self) {
        self.remove(&mut self.running.lock());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);
    const ONE: Class = class(1);

    const fn class(template: u64) -> Class {
        let tenant = None;
        Class { tenant, template }
    }

    #[tokio::test]
    async fn steps_that_want_one_module_share_one_preparation() {
        let preparations = Preparations::<&str, usize>::default();
        let started = Arc::new(AtomicUsize::new(0));
        let compiled = Arc::new(Notify::new());
        let join = || {
            let started = Arc::clone(&started);
            let compiled = Arc::clone(&compiled);
            preparations.join(
                "module",
                |_| true,
                ONE,
                |progress| async move {
                    started.fetch_add(1, Ordering::SeqCst);
                    progress.report(Progress::Compiling(LIMIT));
                    compiled.notified().await;
                    progress.end(7);
                },
            )
        };
        let first = join();
        let second = join();
        assert!(first.is_own && !second.is_own);
        drop(first);
        tokio::task::yield_now().await;
        let third = join();
        compiled.notify_one();
        assert_eq!(second.ended(LIMIT).await, Waited::Ended(7));
        assert_eq!(
            third.ended(LIMIT).await,
            Waited::Ended(7),
            "a step can join while the module is compiled"
        );
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert!(preparations.running.lock().is_empty());
    }

    #[tokio::test]
    async fn a_step_with_a_shorter_limit_stops_waiting_and_time_in_the_queue_is_free() {
        let preparations = Preparations::<u8, u8>::default();
        let start = Arc::new(Notify::new());
        let compiled = Arc::new(Notify::new());
        let long = preparations.join(
            1,
            |_| true,
            ONE,
            |progress| {
                let start = Arc::clone(&start);
                let compiled = Arc::clone(&compiled);
                async move {
                    start.notified().await;
                    progress.report(Progress::Compiling(LIMIT));
                    compiled.notified().await;
                    progress.end(3);
                }
            },
        );
        let short = preparations.join(
            1,
            |_| true,
            ONE,
            |_| async { panic!("the first preparation runs") },
        );
        let limit = Duration::from_millis(20);
        let mut short = Box::pin(short.ended(limit));
        let queued = tokio::time::timeout(limit * 3, &mut short).await;
        assert!(queued.is_err(), "the module is in the queue");
        start.notify_one();
        assert_eq!(short.await, Waited::TimedOut);
        compiled.notify_one();
        assert_eq!(long.ended(LIMIT).await, Waited::Ended(3));
    }

    #[tokio::test]
    async fn a_preparation_that_no_step_waits_for_is_abandoned_and_started_anew() {
        let preparations = Preparations::<u8, u8>::default();
        let abandoned = Arc::new(Notify::new());
        let first = preparations.join(
            1,
            |_| true,
            ONE,
            |progress| {
                let abandoned = Arc::clone(&abandoned);
                async move {
                    progress.abandoned().await;
                    abandoned.notify_one();
                    std::future::pending::<()>().await;
                }
            },
        );
        let second = preparations.join(
            1,
            |_| true,
            ONE,
            |_| async { panic!("the first preparation runs") },
        );
        drop(first);
        let waited = tokio::time::timeout(Duration::from_millis(20), abandoned.notified());
        assert!(waited.await.is_err(), "the second step still waits");
        drop(second);
        abandoned.notified().await;
        let third = preparations.join(
            1,
            |_| true,
            ONE,
            |progress| async move {
                progress.end(3);
            },
        );
        assert_eq!(third.ended(LIMIT).await, Waited::Ended(3));
    }

    #[tokio::test]
    async fn the_task_knows_the_classes_of_all_steps() {
        let preparations = Preparations::<u8, Vec<Class>>::default();
        let joined = Arc::new(Notify::new());
        let first = preparations.join(
            1,
            |_| true,
            class(10),
            |reporter| {
                let joined = Arc::clone(&joined);
                async move {
                    joined.notified().await;
                    let classes = reporter.classes().borrow().clone();
                    reporter.end(classes);
                }
            },
        );
        for template in [10, 20, 10] {
            let class = class(template);
            preparations.join(
                1,
                |_| true,
                class,
                |_| async { panic!("the first preparation runs") },
            );
        }
        joined.notify_one();
        assert_eq!(
            first.ended(LIMIT).await,
            Waited::Ended(vec![class(10), class(20)])
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_the_steps_that_wait() {
        let preparations = Preparations::<u8, ()>::default();
        let preparation = preparations.join(
            1,
            |_| true,
            ONE,
            |progress| async move {
                let _progress = progress;
                panic!("on purpose")
            },
        );
        assert_eq!(preparation.ended(LIMIT).await, Waited::Panicked);
    }
}
