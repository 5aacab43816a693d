//! Writes of a replica: results go into TaskSets.

use std::time::Instant;

use futures::StreamExt;

use super::{Replica, Report};
use crate::argo::Reply;
use crate::cluster::ids::{NodeId, SetUid, TaskKey};
use crate::cluster::index::{Origin, Set};
use crate::cluster::pace::select;
use crate::cluster::results::NodeReport;
use crate::cluster::writer::{Batch, Problem, Written, write};

/// The message in place of a result for which the API server has no space.
const TOO_LARGE: &str =
    "it does not fit into the WorkflowTaskSet beside its tasks; return large values as artifacts";
/// Longest message of the API server in a result, in characters.
const MAX_MESSAGE: usize = 500;
/// Number of writes at a time, of all TaskSets.
const MAX_WRITES: usize = 32;

impl Replica {
    /// Begins all writes that are due.
    pub(super) fn write(&mut self, now: Instant) {
        let due = self.unwritten.iter();
        let due = due.filter(|uid| self.next_write(uid, now).is_some_and(|at| at <= now));
        for uid in due.cloned().collect::<Vec<_>>() {
            if self.writing >= MAX_WRITES {
                return;
            }
            self.unwritten.remove(&uid);
            if let Some(batch) = self.batch(&uid) {
                self.writing += 1;
                self.paces.entry(uid).or_default().begin();
                let kubernetes = self.kubernetes.clone();
                self.start_work(async move {
                    Report::Written(Box::new(write(&kubernetes, batch).await))
                });
            }
        }
    }

    /// Writes all results at once, for the end of the process.
    pub(super) async fn write_the_rest(&mut self) {
        let unwritten = std::mem::take(&mut self.unwritten);
        let batches: Vec<Batch> = unwritten.iter().filter_map(|uid| self.batch(uid)).collect();
        let writes = futures::stream::iter(batches).map(|batch| write(&self.kubernetes, batch));
        let mut written = writes.buffer_unordered(MAX_WRITES);
        while let Some(Written { set, problem, .. }) = written.next().await {
            if let Some(problem) = problem {
                tracing::info!(task_set = %set, ?problem, "results are not written: the next process runs their steps again");
            }
        }
    }

    /// When the next write of a TaskSet may begin. `None` while a write must end before.
    pub(super) fn next_write(&self, uid: &SetUid, now: Instant) -> Option<Instant> {
        if self.writing >= MAX_WRITES {
            return None;
        }
        let is_busy = self.index.set(uid).is_some_and(Set::is_busy);
        let pace = self.paces.get(uid);
        pace.map_or(Some(now), |pace| pace.next(is_busy, now))
    }

    /// The reports of a TaskSet to write now. `None` if there are none.
    fn batch(&self, uid: &SetUid) -> Option<Batch> {
        let set = self.index.set(uid)?;
        let reports = select(set);
        (!reports.is_empty()).then(|| Batch {
            set: uid.clone(),
            workflow: set.workflow().clone(),
            version: set.version().clone(),
            reports,
        })
    }

    /// Replaces the result of a task by an error.
    fn replace(&mut self, set: &SetUid, node: NodeId, message: &str) {
        let report = NodeReport::of(Reply::error(message));
        let set = set.clone();
        self.index.replaced(&TaskKey { set, node }, report);
    }

    /// A write has ended.
    pub(super) fn written(&mut self, written: Written) {
        self.metrics.write_ended(written.name(), written.duration);
        let Written {
            set: uid,
            reports,
            refused,
            latest,
            problem,
            ..
        } = written;
        self.writing -= 1;
        let now = Instant::now();
        if let Some(latest) = &latest {
            let version = &latest.object.metadata.resource_version;
            self.index.written(&uid, &reports, version, now);
        }
        let is_refused = !refused.is_empty();
        let will_shrink = self.index.set(&uid).is_some_and(Set::will_change);
        for refused in refused {
            // The result waits until the controller has read others.
            if refused.is_too_large && will_shrink {
                continue;
            }
            let node = refused.node;
            let message = match refused.is_too_large {
                true => TOO_LARGE.to_owned(),
                false => refused.message.chars().take(MAX_MESSAGE).collect(),
            };
            tracing::warn!(task_set = %uid, %node, error = message, "the API server does not accept a result");
            self.replace(&uid, node, &format!("the result was refused: {message}"));
        }
        let Some(set) = self.index.set(&uid) else {
            // The TaskSet has been removed meanwhile.
            return;
        };
        let pace = self.paces.entry(uid.clone()).or_default();
        match &problem {
            // The errors in place of the results could be refused, too.
            None if is_refused => pace.failed(now),
            None => pace.succeeded(set.bytes(), self.settings.requeue_time, now),
            Some(Problem::Conflict) => pace.conflicted(now),
            Some(Problem::Gone) => return self.forgotten(&uid),
            Some(Problem::Forbidden(error) | Problem::Unavailable(error)) => {
                let workflow = set.workflow();
                let (namespace, workflow) = (&workflow.namespace, &workflow.name);
                tracing::warn!(
                    namespace,
                    workflow,
                    error,
                    "results cannot be written; tried again later"
                );
                pace.failed(now);
            }
        }
        self.unwritten.insert(uid);
        if let Some(latest) = latest {
            self.applied(&latest, Origin::TakenOver);
        }
    }
}
