//! The adoption table: which call gets which execution.
//!
//! The table works like a queue with leases and a visibility timeout. The agent's requests carry
//! no id of the node, so the table is keyed by [`CallKey`], the hash of the request body.
//!
//! - A call *holds* an execution ([`Held`]) while it waits for the result. No other call can take
//!   a held execution.
//! - The call *releases* the execution with a delay, and answers with that delay as `requeue`. The
//!   execution becomes visible after the delay. The next call with the same body takes it. A call
//!   that comes earlier must be from another node with identical inputs, so it starts a new
//!   execution.
//! - The call *acknowledges* the execution when its reply is handed to the connection. The result
//!   is then removed. The phase `Running` is acknowledged in the same way ([`RunningReport`]).
//! - An execution that no call takes within the orphan timeout expires, and is cancelled.
//!
//! If the connection breaks before the reply is handed over, the execution is released without a
//! delay, and the next call takes it. If the process dies, the table is lost and the next call
//! starts a new execution: a step runs at least once.
//!
//! An *exclusive* execution belongs to a template with an `id`. The request body with this `id`
//! names exactly one execution. So the execution stays in the table while calls hold it. All calls
//! with this body share the execution.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::call_key::CallKey;
use crate::argo::Reply;
use crate::executions::{CancelHandle, Usage};
use crate::step::{Stage, StepError, StepNames, step_event};

/// The tolerance for early calls. The agent's clock and this machine's clock can differ.
const EARLY: Duration = Duration::from_millis(100);
/// The tolerance for late calls. An execution does not expire within this time after its delay.
pub(super) const LATE: Duration = Duration::from_secs(30);

/// Result of an execution, ready to be sent.
#[derive(Clone, Debug)]
pub struct CallResult {
    /// Body of the reply: JSON.
    pub reply: Bytes,
    /// Whether the step's own timeout ended the execution. Argo may have failed the node already.
    pub timed_out: bool,
}

impl CallResult {
    /// The result of an execution that panicked. Without a result, every call would be answered
    /// with a `requeue` delay.
    pub(super) fn of_panic() -> Self {
        let error = StepError::panicked(Stage::Run);
        let reply = serde_json::to_vec(&Reply::error(error.to_string())).unwrap_or_default();
        Self {
            reply: reply.into(),
            timed_out: false,
        }
    }
}

/// Result of an execution that has ended.
#[derive(Clone, Debug)]
pub(super) struct Completed {
    pub(super) result: CallResult,
    /// Whether the process was stopping. The result may then be an effect of the stop, so it is
    /// not delivered.
    pub(super) interrupted: bool,
}

/// An execution that runs or has ended, and whose result no call has delivered.
#[derive(Debug)]
pub(super) struct Execution {
    /// The result; `None` while the execution runs.
    pub(super) completed: watch::Receiver<Option<Completed>>,
    pub(super) cancel: CancelHandle,
    pub(super) started: Instant,
    running: RunningReport,
    names: StepNames,
    /// Whether a call has delivered the result.
    acknowledged: AtomicBool,
    _usage: Arc<Usage>,
}

impl Execution {
    pub(super) fn new(
        completed: watch::Receiver<Option<Completed>>,
        cancel: CancelHandle,
        names: StepNames,
        usage: Arc<Usage>,
    ) -> Self {
        Self {
            completed,
            cancel,
            started: Instant::now(),
            running: RunningReport::default(),
            names,
            acknowledged: AtomicBool::new(false),
            _usage: usage,
        }
    }

    /// The report that the execution runs, if the agent still needs it. The controller ends a node
    /// that is `Pending` for longer than `pending_limit`. After that, this report would replace the
    /// phase of the node.
    pub(super) fn report(&self, pending_limit: Duration) -> Option<RunningReport> {
        let needed = !self.running.is_delivered()
            && self.started.elapsed() < pending_limit
            && self.completed.borrow().is_none();
        needed.then(|| self.running.clone())
    }

    fn has_timed_out(&self) -> bool {
        let completed = self.completed.borrow();
        completed
            .as_ref()
            .is_some_and(|completed| completed.result.timed_out)
    }
}

/// Whether the agent was told that an execution runs. Clones belong to the same execution.
#[derive(Clone, Debug, Default)]
pub struct RunningReport(Arc<AtomicBool>);

impl RunningReport {
    /// Whether the report was handed to the connection.
    fn is_delivered(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Remembers that the report was handed to the connection.
    pub(super) fn acknowledge(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An execution that waits for the next call.
#[derive(Debug)]
struct Released {
    execution: Arc<Execution>,
    /// The time from which a call may take the execution: the end of the delay in the last reply.
    visible_at: Instant,
    /// The time at which the execution is cancelled, if no call has taken it.
    expires_at: Instant,
    /// The expiry time of an execution that the template's timeout ended. Argo may have
    /// failed the node. The agent then makes only the next planned call.
    expires_at_if_timed_out: Instant,
}

/// An execution for a call.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) execution: Arc<Execution>,
    /// Whether the execution was started for this call.
    pub(super) is_new: bool,
}

/// Executions that wait for a call, by the key of that call.
#[derive(Debug, Default)]
pub(super) struct Table {
    released: Mutex<HashMap<CallKey, VecDeque<Released>>>,
}

impl Table {
    /// Takes the visible execution for `key`, or starts one. `None` if no execution is visible and
    /// `start` is `None`.
    pub(super) fn adopt_or(
        &self,
        key: &CallKey,
        start: Option<impl FnOnce() -> Arc<Execution>>,
    ) -> Option<Adopted> {
        let latest = Instant::now() + EARLY;
        let mut released = self.released.lock();
        let take_visible = |queue: &mut VecDeque<Released>| {
            let at = queue.iter().position(|entry| entry.visible_at <= latest)?;
            queue.remove(at).map(|entry| entry.execution)
        };
        let visible = released.get_mut(key).and_then(take_visible);
        if released.get(key).is_some_and(VecDeque::is_empty) {
            released.remove(key);
        }
        if let Some(execution) = visible {
            return Some(Adopted {
                execution,
                is_new: false,
            });
        }
        start.map(|start| Adopted {
            execution: start(),
            is_new: true,
        })
    }

    /// Shares the exclusive execution for `key`, or starts one. The execution stays in the table,
    /// and expires `orphan_timeout` after the last call.
    pub(super) fn share_or(
        &self,
        key: &CallKey,
        orphan_timeout: Duration,
        start: Option<impl FnOnce() -> Arc<Execution>>,
    ) -> Option<Adopted> {
        let now = Instant::now();
        let expires_at = now + orphan_timeout;
        let mut released = self.released.lock();
        if let Some(entry) = released.get_mut(key).and_then(|queue| queue.front_mut()) {
            entry.expires_at = expires_at;
            entry.expires_at_if_timed_out = expires_at;
            return Some(Adopted {
                execution: Arc::clone(&entry.execution),
                is_new: false,
            });
        }
        let execution = start?();
        let entry = Released {
            execution: Arc::clone(&execution),
            visible_at: now,
            expires_at,
            expires_at_if_timed_out: expires_at,
        };
        released.insert(key.clone(), VecDeque::from([entry]));
        Some(Adopted {
            execution,
            is_new: true,
        })
    }

    /// Makes an execution available to the next call, unless a call has delivered its result.
    fn release(&self, key: CallKey, entry: Released) {
        let mut released = self.released.lock();
        if entry.execution.acknowledged.load(Ordering::Relaxed) {
            return;
        }
        let queue = released.entry(key).or_default();
        let shared = queue
            .iter_mut()
            .find(|other| Arc::ptr_eq(&other.execution, &entry.execution));
        match shared {
            Some(shared) => *shared = entry,
            None => queue.push_back(entry),
        }
    }

    /// Removes an execution whose result was delivered.
    fn acknowledge(&self, key: &CallKey, execution: &Arc<Execution>) {
        let mut released = self.released.lock();
        execution.acknowledged.store(true, Ordering::Relaxed);
        if let Some(queue) = released.get_mut(key) {
            queue.retain(|entry| !Arc::ptr_eq(&entry.execution, execution));
            if queue.is_empty() {
                released.remove(key);
            }
        }
    }

    /// Cancels and removes the executions that have expired at `now`.
    pub(super) fn sweep(&self, now: Instant) {
        let mut expired = Vec::new();
        let mut released = self.released.lock();
        released.retain(|_, queue| {
            queue.retain(|entry| {
                let expires_at = match entry.execution.has_timed_out() {
                    true => entry.expires_at_if_timed_out,
                    false => entry.expires_at,
                };
                if expires_at <= now {
                    expired.push(Arc::clone(&entry.execution));
                }
                expires_at > now
            });
            !queue.is_empty()
        });
        drop(released);
        for execution in expired {
            let seconds = execution.started.elapsed().as_secs();
            step_event!(
                WARN,
                &execution.names,
                seconds,
                "step cancelled: no call of the agent asked for the step within the orphan timeout"
            );
            execution.cancel.cancel();
        }
    }
}

/// An execution that a call holds. Dropping the value releases the execution for the next call,
/// unless the result was delivered.
#[derive(Debug)]
pub(super) struct Held {
    table: Arc<Table>,
    key: CallKey,
    execution: Arc<Execution>,
    orphan_timeout: Duration,
    /// The delay in the `requeue` reply. `None` if no such reply was sent.
    delay: Option<Duration>,
}

impl Held {
    pub(super) fn new(
        table: Arc<Table>,
        key: CallKey,
        execution: Arc<Execution>,
        orphan_timeout: Duration,
    ) -> Self {
        Self {
            table,
            key,
            execution,
            orphan_timeout,
            delay: None,
        }
    }

    pub(super) fn execution(&self) -> &Execution {
        &self.execution
    }

    /// Releases the execution. The next call was asked to come after `delay`.
    pub(super) fn release_after(mut self, delay: Duration) {
        self.delay = Some(delay);
    }

    /// Removes the execution: its result was delivered.
    pub(super) fn acknowledge(&self) {
        self.table.acknowledge(&self.key, &self.execution);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = Instant::now();
        // After a broken connection, the agent calls again as soon as it can.
        let delay = self.delay.unwrap_or_default();
        let expires_at = now + self.orphan_timeout.max(delay + LATE);
        let expires_at_if_timed_out = match self.delay {
            Some(delay) => now + delay + LATE,
            None => expires_at,
        };
        let entry = Released {
            execution: Arc::clone(&self.execution),
            visible_at: now + delay,
            expires_at,
            expires_at_if_timed_out,
        };
        self.table.release(self.key.clone(), entry);
    }
}
