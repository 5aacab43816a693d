//! Single flight for preparing modules: many steps wait for one module, one task prepares it, and
//! all steps get the result.
//!
//! The task is not a part of any step, so it continues when the step that started it is cancelled.
//! A watch channel tells the waiting steps in which stage the task is. The cache of compiled
//! modules keeps the results, not [`Preparations`].

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

type Running<K, T> = Arc<Mutex<HashMap<K, Preparation<T>>>>;

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
    /// its progress to the sender.
    pub(super) fn join<F>(
        &self,
        key: K,
        work: impl FnOnce(watch::Sender<Progress<T>>) -> F,
    ) -> Preparation<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some(preparation) = running.get(&key) {
            return preparation.clone();
        }
        let (progress, receiver) = watch::channel(Progress::Fetching);
        let preparation = Preparation(receiver);
        running.insert(key.clone(), preparation.clone());
        let entry = Entry {
            running: Arc::clone(&self.running),
            key,
        };
        let work = work(progress);
        let work = async move {
            let _entry = entry;
            work.await;
        };
        tokio::spawn(work.in_current_span());
        preparation
    }
}

/// Removes a preparation from the map when its task ends, also after a panic.
struct Entry<K: Eq + Hash, T> {
    running: Running<K, T>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Entry<K, T> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
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
                progress.send_replace(Progress::Compiling);
                compiled.notified().await;
                progress.send_replace(Progress::Ended(Ok(7)));
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
                progress.send_replace(Progress::Ended(Err(error)));
            })
        };
        assert!(join(Stage::Fetch).fetched().await.is_err());
        let mut compiling = join(Stage::Compile);
        compiling.fetched().await.unwrap();
        assert_eq!(compiling.ended().await.unwrap_err().stage(), Stage::Compile);
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
