//! Single flight for preparing modules: many steps wait for one module, one task prepares it, and
//! all steps get the result.
//!
//! The task is not a part of any step, so it continues when the step that started it is cancelled.
//! A watch channel tells the waiting steps in which stage the task is. The cache of compiled
//! modules keeps the results, not [`Preparations`].
//!
//! The task can find out that no step waits any more ([`Reporter::abandoned`]). The preparation is
//! then removed, and the next step starts a new one.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Instrument;

use crate::step::{Stage, StepError};

/// Progress of a preparation.
#[derive(Clone, Debug)]
pub(super) enum Progress<T> {
    /// The module is being fetched.
    Fetching,
    /// The module is being compiled, or waits for another compilation to end.
    Compiling,
    /// The preparation ended.
    Ended(Result<T, StepError>),
}

/// A running preparation, as a handle for the steps that wait for it.
#[derive(Clone, Debug)]
pub(super) struct Preparation<T>(watch::Receiver<Progress<T>>);

impl<T: Clone> Preparation<T> {
    /// Waits until the module is fetched. Fails when it cannot be fetched.
    pub(super) async fn fetched(&mut self) -> Result<(), StepError> {
        let fetched = |progress: &Progress<T>| !matches!(progress, Progress::Fetching);
        match self.0.wait_for(fetched).await.as_deref() {
            Ok(Progress::Ended(Err(error))) if error.stage() == Stage::Fetch => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(panicked(Stage::Fetch)),
        }
    }

    /// Waits until the module is prepared.
    pub(super) async fn ended(mut self) -> Result<T, StepError> {
        let ended = |progress: &Progress<T>| matches!(progress, Progress::Ended(_));
        match self.0.wait_for(ended).await.as_deref() {
            Ok(Progress::Ended(result)) => result.clone(),
            _ => Err(panicked(Stage::Compile)),
        }
    }
}

/// The error for a preparation whose task panicked.
fn panicked(stage: Stage) -> StepError {
    StepError::error(
        stage,
        "preparing the module panicked; this is a defect of this program",
    )
}

type Running<K, T> = Arc<Mutex<HashMap<K, watch::Sender<Progress<T>>>>>;

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
    /// Joins the preparation for `key` that runs, or starts `work` as a new one. The work reports
    /// its progress.
    pub(super) fn join<F>(&self, key: K, work: impl FnOnce(Reporter<K, T>) -> F) -> Preparation<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some(progress) = running.get(&key) {
            return Preparation(progress.subscribe());
        }
        let (progress, receiver) = watch::channel(Progress::Fetching);
        running.insert(key.clone(), progress.clone());
        let work = work(Reporter {
            running: Arc::clone(&self.running),
            key,
            progress,
        });
        tokio::spawn(work.in_current_span());
        Preparation(receiver)
    }
}

/// The task's handle to its preparation. Dropping it removes the preparation from the map, also
/// after a panic.
#[derive(Debug)]
pub(super) struct Reporter<K: Eq + Hash, T> {
    running: Running<K, T>,
    key: K,
    progress: watch::Sender<Progress<T>>,
}

impl<K: Eq + Hash, T> Reporter<K, T> {
    /// Reports the progress to the waiting steps.
    pub(super) fn report(&self, progress: Progress<T>) {
        self.progress.send_replace(progress);
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
    fn remove(&self, running: &mut HashMap<K, watch::Sender<Progress<T>>>) {
        let own = running.get(&self.key);
        if own.is_some_and(|progress| progress.same_channel(&self.progress)) {
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

    #[tokio::test]
    async fn steps_that_want_one_module_share_one_preparation() {
        let preparations = Preparations::<&str, usize>::default();
        let started = Arc::new(AtomicUsize::new(0));
        let fetched = Arc::new(Notify::new());
        let compiled = Arc::new(Notify::new());
        let join = || {
            let started = Arc::clone(&started);
            let fetched = Arc::clone(&fetched);
            let compiled = Arc::clone(&compiled);
            preparations.join("module", |progress| async move {
                started.fetch_add(1, Ordering::SeqCst);
                fetched.notified().await;
                progress.report(Progress::Compiling);
                compiled.notified().await;
                progress.report(Progress::Ended(Ok(7)));
            })
        };
        let mut first = join();
        let mut second = join();
        assert!(futures::poll!(Box::pin(first.fetched())).is_pending());
        drop(first);
        fetched.notify_one();
        second.fetched().await.unwrap();
        let third = join();
        compiled.notify_one();
        assert_eq!(second.ended().await.unwrap(), 7);
        assert_eq!(
            third.ended().await.unwrap(),
            7,
            "a step can join while the module is compiled"
        );
        assert_eq!(started.load(Ordering::SeqCst), 1);
        tokio::task::yield_now().await;
        assert!(preparations.running.lock().is_empty());
    }

    #[tokio::test]
    async fn a_fetch_error_ends_the_stage_fetch_and_another_error_does_not() {
        let preparations = Preparations::<Stage, ()>::default();
        let join = |stage| {
            preparations.join(stage, move |progress| async move {
                let error = StepError::error(stage, "broken");
                progress.report(Progress::Ended(Err(error)));
            })
        };
        assert!(join(Stage::Fetch).fetched().await.is_err());
        let mut compiling = join(Stage::Compile);
        compiling.fetched().await.unwrap();
        assert_eq!(compiling.ended().await.unwrap_err().stage(), Stage::Compile);
    }

    #[tokio::test]
    async fn a_preparation_that_no_step_waits_for_is_abandoned_and_started_anew() {
        let preparations = Preparations::<u8, u8>::default();
        let abandoned = Arc::new(Notify::new());
        let first = preparations.join(1, |progress| {
            let abandoned = Arc::clone(&abandoned);
            async move {
                progress.abandoned().await;
                abandoned.notify_one();
                std::future::pending::<()>().await;
            }
        });
        let second = preparations.join(1, |_| async { panic!("the first preparation runs") });
        drop(first);
        let waited =
            tokio::time::timeout(std::time::Duration::from_millis(20), abandoned.notified());
        assert!(waited.await.is_err(), "the second step still waits");
        drop(second);
        abandoned.notified().await;
        let third = preparations.join(1, |progress| async move {
            progress.report(Progress::Ended(Ok(3)));
        });
        assert_eq!(third.ended().await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_the_steps_that_wait() {
        let preparations = Preparations::<u8, ()>::default();
        let mut preparation = preparations.join(1, |progress| async move {
            let _progress = progress;
            panic!("on purpose")
        });
        let error = preparation.fetched().await.unwrap_err();
        assert!(error.to_string().contains("this is a defect"));
    }
}
