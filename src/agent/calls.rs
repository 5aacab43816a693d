//! Steps that outlive the calls for them.
//!
//! The agent ends a call after 30 s and makes it again with the same bytes, holds one of its sixteen workers for as long as a call lasts, and says
//! nothing of which node it asks for (`workflow/executor/agent.go`). So a call waits for its step only briefly; the step goes on as a job, and the
//! call that comes when it was asked to adopts it. Identical nodes send identical bytes: a call that comes before is another node's, and starts
//! a job of its own. Each job is one call's at a time. What a job came to is consumed when it is delivered; an attempt that Argo makes again finds
//! nothing, and runs.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::adoption::{self, Job, Parked, Table};
use super::delivery::Delivery;
use crate::config::AgentSettings as Settings;
use crate::executions::registry::{Owner, Register, Running};

/// Calls that wait at once: the agent has sixteen workers, and some must be free for what is answered at once.
const WAITING: usize = 8;
/// How long the calls beyond that wait: most steps are done by then.
const BRIEF: Duration = Duration::from_millis(25);
/// Jobs at once, and bytes of what they came to. The agent is asked to come back with what is beyond that.
const MOST: usize = 20_000;
const MOST_BYTES: usize = 256 << 20;
/// How often what nobody asks for any more is looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Longer than that nobody is waited for.
const LONGEST_ORPHAN: Duration = Duration::from_hours(24);

/// Which bytes were sent.
pub type Key = sources::Digest;

/// What a call is told.
#[derive(Debug)]
pub enum Answer<T> {
    /// What the step came to.
    Done(Delivery<T>),
    /// Come again after that time.
    Later(Duration),
    /// Nobody wants to know: what Argo has of the node stays.
    Unwanted,
}

/// What a job came to.
#[derive(Clone, Debug)]
pub struct Finished<T> {
    /// What it came to.
    pub value: T,
    /// How many bytes that are.
    pub bytes: usize,
    /// Whether its own timeout ended it: Argo has failed the node already.
    pub timed_out: bool,
}

/// The same, once it has ended.
#[derive(Clone, Debug)]
pub(super) struct Done<T> {
    pub(super) finished: Finished<T>,
    /// Whether the program was stopping: then it may be what that made of it.
    pub(super) interrupted: bool,
}

/// The jobs. Cheap to clone.
#[derive(Debug)]
pub struct Jobs<T> {
    settings: Settings,
    table: Arc<Table<T>>,
    waiting: Arc<Semaphore>,
    register: Register,
    running: TaskTracker,
    shutdown: CancellationToken,
}

impl<T> Clone for Jobs<T> {
    fn clone(&self) -> Self {
        let (table, waiting) = (Arc::clone(&self.table), Arc::clone(&self.waiting));
        let (register, running, shutdown) = (
            self.register.clone(),
            self.running.clone(),
            self.shutdown.clone(),
        );
        Self {
            settings: self.settings,
            table,
            waiting,
            register,
            running,
            shutdown,
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Jobs<T> {
    /// No jobs yet. `shutdown` ends all of them. Call it on a tokio runtime.
    pub fn new(settings: Settings, shutdown: CancellationToken) -> Self {
        let table = Arc::new(Table::default());
        let (swept, stop) = (Arc::downgrade(&table), shutdown.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                tokio::time::sleep(SWEEP).await;
                let Some(table) = swept.upgrade() else { return };
                table.sweep(Instant::now());
            }
        });
        let (waiting, running) = (Arc::new(Semaphore::new(WAITING)), TaskTracker::new());
        Self {
            settings,
            table,
            waiting,
            register: Register::default(),
            running,
            shutdown,
        }
    }

    /// Those that run.
    pub fn running(&self) -> Vec<Running> {
        self.register.all()
    }

    /// Adopts the job for these bytes, or starts one. `alone` says that the bytes name one execution: then there is one job for them, whoever asks.
    /// When the caller goes away, the job goes on.
    ///
    /// Where the program stops, the caller is told to come again: whoever is there then runs the step anew.
    pub async fn call<F>(
        &self,
        key: Key,
        alone: bool,
        owner: Owner,
        start: impl FnOnce(CancellationToken) -> F,
    ) -> Answer<T>
    where
        F: Future<Output = Finished<T>> + Send + 'static,
    {
        // A call that waits holds its step longer than that, and the next may be late.
        let orphan = self
            .settings
            .orphan_timeout
            .0
            .clamp(adoption::LATE, LONGEST_ORPHAN);
        // What is there is always adopted: that is how it becomes less.
        let full = self.table.len() >= MOST
            || self.table.bytes() >= MOST_BYTES
            || self.shutdown.is_cancelled();
        let start = (!full).then_some(|| self.start(owner, start));
        let Some((job, new)) = self.table.adopt_or(&key, alone, orphan, start) else {
            return Answer::Later(if self.shutdown.is_cancelled() {
                SHORTEST
            } else {
                LONGEST
            });
        };
        // From here on it is left for the next call, whatever becomes of this one.
        let parked = Parked::new(Arc::clone(&self.table), key, job, orphan);
        if !new {
            return self.answer(parked);
        }
        let permit = self.waiting.try_acquire();
        let wait = if permit.is_ok() {
            self.settings.wait.0
        } else {
            BRIEF.min(self.settings.wait.0)
        };
        let mut finished = parked.job().finished.clone();
        tokio::select! {
            biased;
            _ = finished.wait_for(Option::is_some) => {}
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
        self.answer(parked)
    }

    fn start<F>(&self, owner: Owner, start: impl FnOnce(CancellationToken) -> F) -> Arc<Job<T>>
    where
        F: Future<Output = Finished<T>> + Send + 'static,
    {
        let (publish, finished) = watch::channel(None);
        let cancel = self.shutdown.child_token();
        let work = start(cancel.clone());
        let counted = self.table.count();
        let running = Running::new(owner, cancel.clone());
        let unwanted = running.unwanted();
        let (entry, kept, stop) = (
            self.register.enter(running),
            Arc::clone(&counted),
            self.shutdown.clone(),
        );
        self.running.spawn(async move {
            let finished = work.await;
            drop(entry);
            kept.add(finished.bytes);
            publish.send_replace(Some(Done {
                interrupted: stop.is_cancelled(),
                finished,
            }));
        });
        Arc::new(Job::new(finished, cancel, unwanted, counted))
    }

    fn answer(&self, parked: Parked<T>) -> Answer<T> {
        if parked.job().is_unwanted() {
            parked.consume();
            return Answer::Unwanted;
        }
        let done = parked.job().finished.borrow().clone();
        let later = match done {
            Some(Done {
                finished,
                interrupted: false,
            }) => return Answer::Done(Delivery::new(finished.value, parked)),
            _ if self.shutdown.is_cancelled() => SHORTEST,
            _ => later(parked.job().started.elapsed()),
        };
        parked.leave_for(later);
        Answer::Later(later)
    }

    /// Waits until all jobs have ended, once they were told to.
    pub async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);

/// When to ask again: the longer a step has taken, the longer it may take.
fn later(age: Duration) -> Duration {
    // Whole seconds, as they are said.
    Duration::from_secs((age / 4).clamp(SHORTEST, LONGEST).as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::text::units::Time;

    /// Jobs that end when they are told to, and how many were started.
    struct Fixture {
        jobs: Jobs<usize>,
        started: Arc<AtomicUsize>,
        gate: watch::Sender<bool>,
        shutdown: CancellationToken,
    }

    impl Fixture {
        fn new(orphan: Duration) -> Self {
            let settings = Settings {
                wait: Time(Duration::from_millis(300)),
                orphan_timeout: Time(orphan),
                ..Settings::default()
            };
            let (gate, shutdown) = (watch::channel(false).0, CancellationToken::new());
            Self {
                jobs: Jobs::new(settings, shutdown.clone()),
                started: Arc::default(),
                gate,
                shutdown,
            }
        }

        async fn call(&self, alone: bool) -> Answer<usize> {
            let number = Arc::clone(&self.started);
            let mut gate = self.gate.subscribe();
            let start = move |cancel: CancellationToken| async move {
                let number = number.fetch_add(1, Ordering::SeqCst);
                let timed_out = tokio::select! {
                    _ = gate.wait_for(|open| *open) => false,
                    () = cancel.cancelled() => true,
                };
                Finished {
                    value: number,
                    bytes: 0,
                    timed_out,
                }
            };
            self.jobs
                .call(Key::of(b"bytes"), alone, Owner::default(), start)
                .await
        }

        fn started(&self) -> usize {
            self.started.load(Ordering::SeqCst)
        }

        async fn open(&self) {
            self.gate.send_replace(true);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    const LONG: Duration = Duration::from_mins(1);

    fn deliver(answer: Answer<usize>) -> Option<usize> {
        match answer {
            Answer::Later(_) | Answer::Unwanted => None,
            Answer::Done(delivery) => {
                let value = *delivery.value();
                let mut body = delivery.into_body("x".into());
                let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
                let _ = http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context);
                Some(value)
            }
        }
    }

    #[tokio::test]
    async fn a_call_waits_briefly_and_the_next_adopts() {
        let f = Fixture::new(LONG);
        assert!(matches!(f.call(false).await, Answer::Later(SHORTEST)));
        tokio::time::sleep(SHORTEST).await;
        assert!(matches!(f.call(false).await, Answer::Later(SHORTEST)));
        assert_eq!(f.started(), 1);
        assert!(
            matches!(f.call(false).await, Answer::Later(_)),
            "too early: another node's"
        );
        assert_eq!(f.started(), 2);
        f.open().await;
        tokio::time::sleep(SHORTEST).await;
        assert_eq!(
            (deliver(f.call(false).await), deliver(f.call(false).await)),
            (Some(0), Some(1))
        );
        assert_eq!(
            deliver(f.call(false).await),
            Some(2),
            "an attempt that is made again runs"
        );
        assert_eq!(f.jobs.table.len(), 0);
    }

    #[tokio::test]
    async fn identical_nodes_are_not_one() {
        let f = Fixture::new(LONG);
        let (first, second) = tokio::join!(f.call(false), f.call(false));
        assert!(deliver(first).is_none() && deliver(second).is_none());
        assert_eq!(f.started(), 2);
        f.open().await;
        tokio::time::sleep(SHORTEST).await;
        let mut came: Vec<_> = [f.call(false).await, f.call(false).await]
            .into_iter()
            .filter_map(deliver)
            .collect();
        came.sort_unstable();
        assert_eq!((came, f.started()), (vec![0, 1], 2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bytes_with_an_id_are_one_execution_however_many_ask() {
        let f = Arc::new(Fixture::new(LONG));
        for round in 0..50 {
            f.gate.send_replace(false);
            let calls = (0..8).map(|_| {
                let f = Arc::clone(&f);
                tokio::spawn(async move {
                    drop(tokio::time::timeout(Duration::from_millis(5), f.call(true)).await)
                })
            });
            futures::future::join_all(calls).await;
            assert_eq!(f.started(), round + 1);
            f.open().await;
            assert_eq!(deliver(f.call(true).await), Some(round));
        }
    }

    #[tokio::test]
    async fn bytes_with_an_id_are_one_execution() {
        let f = Fixture::new(LONG);
        let (first, second) = tokio::join!(f.call(true), f.call(true));
        assert!(deliver(first).is_none() && deliver(second).is_none());
        f.open().await;
        assert_eq!((deliver(f.call(true).await), f.started()), (Some(0), 1));
        assert_eq!(
            (deliver(f.call(true).await), f.started()),
            (Some(1), 2),
            "it was consumed"
        );
    }

    #[tokio::test]
    async fn what_is_not_delivered_is_left() {
        let f = Fixture::new(LONG);
        f.open().await;
        drop(f.call(false).await);
        let Answer::Done(delivery) = f.call(false).await else {
            panic!("it is done")
        };
        drop(delivery.into_body("x".into()));
        assert_eq!((deliver(f.call(false).await), f.started()), (Some(0), 1));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_takes_nothing_along() {
        let f = Fixture::new(LONG);
        let left = tokio::time::timeout(Duration::from_millis(10), f.call(false)).await;
        assert!(left.is_err());
        f.open().await;
        assert_eq!((deliver(f.call(false).await), f.started()), (Some(0), 1));
    }

    /// However much is kept, those who ask get theirs; only what is new waits.
    #[tokio::test]
    async fn what_is_too_much_keeps_nobody_from_what_is_there() {
        let f = Fixture::new(LONG);
        let counted = f.jobs.table.count();
        assert!(matches!(f.call(false).await, Answer::Later(SHORTEST)));
        counted.add(MOST_BYTES);
        f.open().await;
        tokio::time::sleep(SHORTEST).await;
        assert_eq!(deliver(f.call(false).await), Some(0));
        assert!(matches!(f.call(false).await, Answer::Later(LONGEST)));
        drop(counted);
        assert_eq!(
            (f.jobs.table.bytes(), deliver(f.call(false).await)),
            (0, Some(1))
        );
    }

    #[tokio::test]
    async fn what_nobody_wants_is_not_told() {
        let f = Fixture::new(LONG);
        assert!(matches!(f.call(false).await, Answer::Later(_)));
        let [running] = f.jobs.running().try_into().unwrap();
        running.forget();
        tokio::time::sleep(SHORTEST).await;
        assert!(matches!(f.call(false).await, Answer::Unwanted));
        assert_eq!((f.jobs.table.len(), f.jobs.running().len()), (0, 0));
    }

    #[tokio::test]
    async fn what_a_stop_made_of_it_is_not_told() {
        let f = Fixture::new(LONG);
        let (first, ()) = tokio::join!(f.call(false), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            f.shutdown.cancel();
        });
        assert!(matches!(first, Answer::Later(SHORTEST)));
        tokio::time::sleep(SHORTEST).await;
        assert!(
            matches!(f.call(false).await, Answer::Later(SHORTEST)),
            "an adopting one"
        );
        assert_eq!(f.started(), 1, "and nothing is begun");
    }

    #[tokio::test]
    async fn few_calls_wait() {
        let f = Fixture::new(LONG);
        let began = Instant::now();
        let waiting = futures::future::join_all((0..WAITING).map(|_| f.call(false)));
        let beyond = async {
            tokio::task::yield_now().await;
            let answer = f.call(false).await;
            (answer, began.elapsed())
        };
        let (_, (answer, took)) = tokio::join!(waiting, beyond);
        assert!(
            matches!(answer, Answer::Later(_)) && took < Duration::from_millis(250),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_stopped() {
        let f = Fixture::new(Duration::from_millis(100));
        let left = tokio::time::timeout(Duration::from_millis(10), f.call(false)).await;
        assert!(left.is_err());
        f.jobs.table.sweep(Instant::now() + Duration::from_secs(20));
        assert_eq!(f.jobs.table.len(), 1, "the agent may come back");
        f.jobs.table.sweep(Instant::now() + Duration::from_secs(31));
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(f.jobs.table.len(), 0);
        f.open().await;
        assert_eq!(deliver(f.call(false).await), Some(1), "it was another");
        f.shutdown.cancel();
    }

    #[test]
    fn the_older_the_rarer() {
        let seconds = |seconds| later(Duration::from_secs(seconds)).as_secs();
        assert_eq!(
            [
                seconds(0),
                seconds(5),
                seconds(20),
                seconds(60),
                seconds(6000)
            ],
            [1, 1, 5, 15, 15]
        );
    }
}
