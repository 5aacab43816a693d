//! The registry of running executions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::step::{ExecutionId, StepNames};

/// Cancels one execution. All clones belong to the same execution.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle {
    token: CancellationToken,
    abandoned: Arc<AtomicBool>,
    failure: Arc<OnceLock<&'static str>>,
}

impl CancelHandle {
    /// Makes a handle. A cancelled `token` cancels the execution too.
    pub fn new(token: CancellationToken) -> Self {
        Self {
            token,
            abandoned: Arc::default(),
            failure: Arc::default(),
        }
    }

    /// Cancels the execution. Its outcome is still delivered.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Cancels the execution because its workflow has ended. The call that would fetch the outcome
    /// gets an empty reply, and the agent stops asking.
    ///
    /// Use this only if no other execution with the same request can still be wanted.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.token.cancel();
    }

    /// Cancels the execution. The outcome is `Failed` with this message, and is delivered.
    pub fn fail(&self, message: &'static str) {
        // The first message stays.
        let _ = self.failure.set(message);
        self.token.cancel();
    }

    /// The message that [`fail`](Self::fail) set.
    pub fn failure(&self) -> Option<&'static str> {
        self.failure.get().copied()
    }

    /// Whether the execution was abandoned: its outcome is not delivered.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// The token that is cancelled with the execution.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// A running execution.
#[derive(Clone, Debug)]
pub struct Running {
    /// Names of the execution: its id, and the template and the Workflow that it belongs to.
    pub names: StepNames,
    /// Cancels the execution.
    pub cancel: CancelHandle,
    since: Instant,
}

impl Running {
    /// Time since the execution was registered.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// All running executions. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<HashMap<ExecutionId, Running>>>);

/// Entry of one execution in the registry. Dropping it removes the entry.
#[derive(Debug)]
pub struct Registration {
    registry: Registry,
    id: ExecutionId,
}

impl Registry {
    /// Adds an execution until the returned value is dropped.
    pub fn register(&self, names: StepNames, cancel: CancelHandle) -> Registration {
        let id = names.execution.clone();
        let running = Running {
            names,
            cancel,
            since: Instant::now(),
        };
        self.0.lock().insert(id.clone(), running);
        Registration {
            registry: self.clone(),
            id,
        }
    }

    /// All running executions, in no particular order.
    pub fn running(&self) -> Vec<Running> {
        self.0.lock().values().cloned().collect()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.0.lock().remove(&self.id);
    }
}
