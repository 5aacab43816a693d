//! Calls of Argo's agent, and the executions that outlive them.
//!
//! The agent ends a call after 30 s, and then makes it again with the same bytes. It has sixteen
//! workers, and each call blocks one of them (`workflow/executor/agent.go`). A step can take hours.
//! So a call waits for its execution only briefly, and then answers with a `requeue` delay. The
//! execution continues.
//!
//! Requests carry no id of the node. The hash of the request body is the idempotency key, and a
//! `requeue` delay works as a visibility timeout: a request with the same body that arrives after
//! the delay continues the execution. A request that arrives earlier must be from a different node
//! with identical inputs, so it starts a new execution. [`adoption`](super::adoption) has the
//! rules.
//!
//! A result is removed once its reply has been handed to the connection. A later retry of the node
//! finds no result, and runs again.

mod long_waits;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::adoption::{self, CallResult, Completed, Execution, Held, RunningReport, Table};
use super::call_key::CallKey;
use super::delivery::Delivery;
use crate::config::AgentSettings;
use crate::executions::{CancelHandle, Room, Usage};
use crate::pipeline::TemplateKey;
use crate::step::{ExecutionId, Owner, StepNames};
use long_waits::LongWaits;

/// The maximum number of calls that wait for their executions longer than [`SHORT_WAIT`]. The agent
/// has sixteen workers, and some must stay free for calls that are answered soon.
const MAX_WAITING: usize = 8;
/// If `MAX_WAITING` other calls wait, a call waits for this time. Then it takes the place of the
/// call that has waited longest. A call that loses its place gets a delay of at least a second.
const SHORT_WAIT: Duration = Duration::from_millis(50);
/// The longest wait of a call whose reply must reach the controller soon.
const SOON: Duration = Duration::from_secs(1);
/// Time between two searches for executions that have expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Longest orphan timeout.
const MAX_ORPHAN_TIMEOUT: Duration = Duration::from_hours(24);
/// Shortest and longest delay until the next call.
const MIN_REQUEUE: Duration = Duration::from_secs(1);
const MAX_REQUEUE: Duration = Duration::from_secs(15);

/// A call: the request body's key, and what is known about the node.
#[derive(Clone, Debug)]
pub struct CallInfo {
    /// Idempotency key of the call.
    pub key: CallKey,
    /// Whether the template has an `id`, so that the body names exactly one execution.
    pub exclusive: bool,
    /// The memory of an execution for the call, in bytes.
    pub memory: usize,
    /// Text that is unique to the workflow, such as its uid.
    pub workflow: String,
    /// Template and Workflow of the node.
    pub owner: Arc<Owner>,
    /// Time after which the controller ends the node, if the node is still `Pending`. The call is
    /// then answered after a second at most, so that the controller learns soon that the step runs.
    pub pending_limit: Option<Duration>,
}

/// Answer to a call.
#[derive(Debug)]
pub enum CallReply {
    /// The execution has ended.
    Done(Delivery),
    /// The agent must call again after this delay.
    Requeue(Duration),
    /// The execution was abandoned because its workflow has ended. The agent keeps its state of the
    /// node, and stops calling.
    Abandoned,
}

/// A reply, and whether the agent must be told that the execution runs.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub reply: CallReply,
    /// The report that the execution runs. `None` if the report is not needed, was delivered, or
    /// could come after the controller has ended the node.
    pub running: Option<RunningReport>,
}

/// Executions of the agent's calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    settings: AgentSettings,
    table: Arc<Table>,
    room: Room,
    long_waits: LongWaits,
    running: TaskTracker,
    shutdown: CancellationToken,
    /// Number of executions that were started.
    started: Arc<AtomicU64>,
}

impl Calls {
    /// Creates an empty table. `room` limits the memory of executions. `shutdown` cancels all
    /// executions. Call this on a tokio runtime.
    pub fn new(settings: AgentSettings, room: Room, shutdown: CancellationToken) -> Self {
        let table = Arc::new(Table::default());
        let swept = Arc::downgrade(&table);
        let stop = shutdown.clone();
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                let Some(table) = swept.upgrade() else { return };
                table.sweep(Instant::now());
            }
        });
        Self {
            settings,
            table,
            room,
            long_waits: LongWaits::new(MAX_WAITING),
            running: TaskTracker::new(),
            shutdown,
            started: Arc::default(),
        }
    }

    /// Answers a call: takes the visible execution for this call, or starts an execution with
    /// `start`. A new execution gets its names and a handle to cancel it.
    ///
    /// If the caller disconnects, the execution continues. While the process stops, the agent is
    /// asked to call again, and the next process runs the step anew.
    pub async fn call<F>(
        &self,
        call: CallInfo,
        start: impl FnOnce(StepNames, CancelHandle) -> F,
    ) -> Answer
    where
        F: Future<Output: Into<CallResult>> + Send + 'static,
    {
        // The next call can be late by up to `LATE`. So the orphan timeout is at least `LATE`.
        let orphan_timeout = self.settings.orphan_timeout.0;
        let orphan_timeout = orphan_timeout.clamp(adoption::LATE, MAX_ORPHAN_TIMEOUT);
        // The room is only for new executions. Existing ones must be delivered to make room.
        let template = TemplateKey::of(&call.workflow, &call.owner.template);
        let room = (!self.shutdown.is_cancelled())
            .then(|| self.room.take(template, call.memory))
            .flatten();
        let start = room.map(|usage| || self.start(&call, usage, start));
        let adopted = match call.exclusive {
            true => self.table.share_or(&call.key, orphan_timeout, start),
            false => self.table.adopt_or(&call.key, start),
        };
        let Some(adopted) = adopted else {
            let delay = match self.shutdown.is_cancelled() {
                true => MIN_REQUEUE,
                false => MAX_REQUEUE,
            };
            return Answer {
                reply: CallReply::Requeue(delay),
                running: None,
            };
        };
        // From here on, dropping this future releases the execution for the next call.
        let table = Arc::clone(&self.table);
        let held = Held::new(table, call.key, adopted.execution, orphan_timeout);
        if adopted.is_new {
            self.wait(held.execution(), call.pending_limit.is_some())
                .await;
        }
        Answer {
            running: call
                .pending_limit
                .and_then(|limit| held.execution().report(limit)),
            reply: self.reply(held),
        }
    }

    /// Waits for the end of an execution, but only for a short time.
    async fn wait(&self, execution: &Execution, answered_soon: bool) {
        let wait = match answered_soon {
            true => self.settings.wait.0.min(SOON),
            false => self.settings.wait.0,
        };
        let mut completed = execution.completed.clone();
        tokio::select! {
            biased;
            _ = completed.wait_for(Option::is_some) => {}
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
            () = self.keep_place() => {}
        }
    }

    /// Waits until the place of a call for a long wait is taken away.
    async fn keep_place(&self) {
        let free = self.long_waits.try_take();
        let mut place = if let Some(place) = free {
            place
        } else {
            tokio::time::sleep(SHORT_WAIT).await;
            self.long_waits.take()
        };
        place.taken_away().await;
    }

    fn start<F>(
        &self,
        call: &CallInfo,
        usage: Usage,
        start: impl FnOnce(StepNames, CancelHandle) -> F,
    ) -> Arc<Execution>
    where
        F: Future<Output: Into<CallResult>> + Send + 'static,
    {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let id = ExecutionId::new(format!("{}-{}-{number}", call.workflow, call.key));
        let names = StepNames {
            execution: id,
            owner: Arc::clone(&call.owner),
        };
        let cancel = CancelHandle::new(self.shutdown.child_token());
        // The box keeps the future of a step in one place: a future is several KiB, and each move
        // would copy it.
        let work = Box::pin(start(names.clone(), cancel.clone()));
        let usage = Arc::new(usage);
        let counted = Arc::clone(&usage);
        let shutdown = self.shutdown.clone();
        let (publish, completed) = watch::channel(None);
        self.running.spawn(async move {
            let work = async { work.await.into() };
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = result.unwrap_or_else(|_| CallResult::of_panic());
            counted.end(result.reply.len());
            publish.send_replace(Some(Completed {
                interrupted: shutdown.is_cancelled(),
                result,
            }));
        });
        Arc::new(Execution::new(completed, cancel, names, usage))
    }

    fn reply(&self, held: Held) -> CallReply {
        if held.execution().cancel.is_abandoned() {
            held.acknowledge();
            return CallReply::Abandoned;
        }
        let completed = held.execution().completed.borrow().clone();
        let delay = match completed {
            Some(Completed {
                result,
                interrupted: false,
            }) => return CallReply::Done(Delivery::new(result.reply, held)),
            _ if self.shutdown.is_cancelled() => MIN_REQUEUE,
            _ => requeue_delay(held.execution().started.elapsed()),
        };
        held.release_after(delay);
        CallReply::Requeue(delay)
    }

    /// The largest memory of one execution, in bytes.
    pub fn largest(&self) -> usize {
        self.room.largest()
    }

    /// Waits until all executions have ended. Cancel the shutdown token first.
    pub async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// Delay until the next call for an execution of this age: a quarter of the age, within bounds.
/// The delay is in whole seconds, as Argo reads it.
fn requeue_delay(age: Duration) -> Duration {
    Duration::from_secs((age / 4).clamp(MIN_REQUEUE, MAX_REQUEUE).as_secs())
}

#[cfg(test)]
mod tests;
