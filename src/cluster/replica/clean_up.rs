//! Whether Argo's controller removes the results that it has read.
//!
//! The controller needs the verb `patch` for `workflowtasksets/status`. Argo's own manifests do not
//! give it this right (<https://github.com/argoproj/argo-workflows/issues/13341>). Without it,
//! WorkflowTaskSets grow, and are not marked as completed.

use std::time::{Duration, Instant};

use crate::cluster::index::Index;

/// Time between two looks at all TaskSets.
const INTERVAL: Duration = Duration::from_secs(30);
/// Shortest time after which a result is noticed.
const SHORTEST: Duration = Duration::from_mins(2);

/// The removal of results by the controller.
#[derive(Debug, Default)]
pub(super) struct CleanUp {
    next: Option<Instant>,
    is_reported: bool,
}

impl CleanUp {
    /// Warns once if the controller has not removed a result for `longest`.
    pub(super) fn check(&mut self, index: &Index, longest: Duration, now: Instant) {
        if self.is_reported || self.next.is_some_and(|next| next > now) {
            return;
        }
        self.next = Some(now + INTERVAL);
        let longest = longest.max(SHORTEST);
        if let Some(workflow) = index.with_old_result(longest, now) {
            self.is_reported = true;
            let (namespace, workflow) = (&workflow.namespace, &workflow.name);
            tracing::warn!(
                namespace,
                workflow,
                "Argo's controller has not removed a result for {longest:?}: if the workflow is not \
                 suspended, the controller may lack the verb `patch` for `workflowtasksets/status`; \
                 apply `plugin/cluster/argo`"
            );
        }
    }
}
