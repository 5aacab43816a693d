//! The drain of a replica: it gives its TaskSets back.
//!
//! A TaskSet is given back when no task of it runs, and when the controller has taken all results.
//! The next owner does not know which results were written: it would run a task again whose result
//! the controller has just removed.

use std::time::Duration;

use super::{Replica, Report};
use crate::cluster::claim::release;
use crate::cluster::ids::SetUid;
use crate::kubernetes::ApiError;

/// Time after which a TaskSet is given back again that could not be given back.
const RETRY: Duration = Duration::from_secs(1);
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
            "draining: running steps end, and no further step starts"
        );
    }

    /// Whether all TaskSets are given back.
    pub(super) fn is_drained(&self) -> bool {
        self.is_draining && self.index.len() == 0 && !self.candidates.is_claiming()
    }

    /// Gives back all TaskSets that can be given back.
    pub(super) fn release(&mut self) {
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
