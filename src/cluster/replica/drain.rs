//! The drain of a replica: it gives its TaskSets back.
//!
//! A TaskSet is given back when no task of it runs, and when the controller has taken all results.
//! The next owner does not know which results were written: it would run a task again whose result
//! the controller has just removed.
//!
//! If the controller does not take the results, for example of a suspended workflow, the TaskSet
//! keeps its label. The next owner then takes it over as from a dead replica: it does not start a
//! task at once that has no result.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Replica, Report};
use crate::cluster::claim::release;
use crate::cluster::ids::SetUid;
use crate::kubernetes::ApiError;

/// Time after which a TaskSet is given back again that could not be given back.
const RETRY: Duration = Duration::from_secs(1);
/// Time beyond the controller's own in which it takes results.
const PATIENCE: Duration = Duration::from_secs(3);
/// Number of TaskSets that are given back at a time.
const MAX_RELEASES: usize = 32;

impl Replica {
    /// Begins the drain: no task starts any more.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        for task in self.waiting.take_all() {
            self.index.left_to_others(&task);
        }
        let task_sets = self.index.len();
        tracing::info!(
            task_sets,
            "draining: accepted steps end, and no further task is accepted"
        );
    }

    /// Whether all TaskSets are given back, or can be taken over.
    pub(super) fn is_drained(&self) -> bool {
        if !self.is_draining || self.candidates.is_claiming() {
            return false;
        }
        // The controller reads results after the requeue time, and needs some time for it.
        let longest = 2 * self.settings.requeue_time + PATIENCE;
        let settled = self.settled.values();
        let settled = settled.filter(|since| since.elapsed() >= longest).count();
        settled == self.index.len()
    }

    /// Notes since when the TaskSets are settled.
    fn note_settled(&mut self) {
        let now = Instant::now();
        let settled: HashSet<SetUid> = self.index.settled().map(|(uid, _)| uid.clone()).collect();
        self.settled.retain(|uid, _| settled.contains(uid));
        for uid in settled {
            self.settled.entry(uid).or_insert(now);
        }
    }

    /// Gives back all TaskSets that can be given back.
    pub(super) fn release(&mut self) {
        self.note_settled();
        let free = MAX_RELEASES.saturating_sub(self.releasing.len());
        let idle = self
            .index
            .idle()
            .filter(|(uid, _)| !self.releasing.contains(*uid));
        let idle: Vec<_> = idle
            .take(free)
            .map(|(uid, set)| (uid.clone(), set.workflow().clone(), set.version().clone()))
            .collect();
        for (uid, workflow, version) in idle {
            self.releasing.insert(uid.clone());
            let kubernetes = self.kubernetes.clone();
            self.start_work(async move {
                let released = release(&kubernetes, &workflow, &version).await;
                if released.is_err() {
                    tokio::time::sleep(RETRY).await;
                }
                Report::Released(uid, released)
            });
        }
    }

    pub(super) fn released(&mut self, uid: &SetUid, released: Result<(), ApiError>) {
        self.releasing.remove(uid);
        match released {
            Ok(()) => self.forgotten(uid),
            // The TaskSet has changed: the watch reports its new version.
            Err(error) => tracing::debug!(task_set = %uid, %error, "TaskSet not given back yet"),
        }
    }
}
