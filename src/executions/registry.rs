//! Which steps run, and for whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Whose step a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The Workflow's namespace.
    pub namespace: String,
    /// Its name.
    pub workflow: String,
    /// Its uid; empty where Argo does not say it.
    pub uid: String,
    /// The template's name.
    pub template: String,
}

/// A job that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Whose it is.
    pub owner: Arc<Owner>,
    /// Which of all it is.
    pub number: u64,
    since: Instant,
    cancel: CancellationToken,
    unwanted: Arc<AtomicBool>,
}

impl Running {
    pub(crate) fn new(owner: Owner, cancel: CancellationToken) -> Self {
        Self {
            owner: Arc::new(owner),
            number: 0,
            since: Instant::now(),
            cancel,
            unwanted: Arc::default(),
        }
    }

    pub(crate) fn unwanted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unwanted)
    }

    /// How long it has been running.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends it.
    pub fn stop(&self) {
        self.cancel.cancel();
    }

    /// Ends it, where nobody can want to know what it comes to, or what any other of its bytes does: whoever asks is told nothing, and asks no more.
    pub fn forget(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
        self.cancel.cancel();
    }
}

/// All that run.
#[derive(Clone, Debug, Default)]
pub struct Register(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    running: HashMap<u64, Running>,
}

/// An entry, for as long as it is kept.
#[derive(Debug)]
pub struct Entry {
    register: Register,
    number: u64,
}

impl Register {
    pub(crate) fn enter(&self, running: Running) -> Entry {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.last += 1;
        let number = entries.last;
        entries
            .running
            .insert(number, Running { number, ..running });
        Entry {
            register: self.clone(),
            number,
        }
    }

    pub(crate) fn all(&self) -> Vec<Running> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .running
            .values()
            .cloned()
            .collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.register
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .running
            .remove(&self.number);
    }
}
