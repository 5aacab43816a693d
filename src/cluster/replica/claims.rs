//! Claims of a replica: it becomes the owner of TaskSets that have no living owner.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Replica, Report};
use crate::argo::task_set::TaskSetMetadata;
use crate::cluster::claim::{Claim, REPLICA, claim};
use crate::cluster::ids::SetUid;
use crate::cluster::members::{LONGEST_GAP, Lease, rank};
use crate::kubernetes::{ApiError, Metadata, WatchEvent};

/// Time between the claims of two replicas for one TaskSet. Usually the first one succeeds.
const TURN: Duration = Duration::from_millis(300);
/// Time between two searches for TaskSets of dead replicas.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// Time after which a TaskSet of a dead replica is claimed. A new replica can be unknown for a
/// moment, because its Lease arrives by another watch.
const CONFIRMATION: Duration = Duration::from_secs(2);

impl Replica {
    pub(super) fn lease(&mut self, event: WatchEvent<Lease>) {
        let now = Instant::now();
        self.view.watched(now, LONGEST_GAP);
        match event {
            WatchEvent::Listed { objects, .. } => {
                let all: Vec<Lease> = objects.into_iter().map(|stored| stored.object).collect();
                self.view.listed(&all);
            }
            WatchEvent::Applied(stored) => self.view.applied(&stored.object),
            WatchEvent::Deleted(stored) => self.view.deleted(&stored.object.metadata.name),
        }
    }

    /// The replicas that are alive, with this one.
    fn alive(&self) -> HashSet<String> {
        let others = self.view.alive().map(str::to_owned);
        others.chain([self.settings.replica.clone()]).collect()
    }

    /// When this replica may claim a TaskSet: the other replicas have their turns, too.
    fn turn(&self, metadata: &Metadata, now: Instant) -> Instant {
        let own = &self.settings.replica;
        let rank = rank(own, self.view.alive(), &metadata.uid);
        now + TURN * u32::try_from(rank).unwrap_or(u32::MAX).min(100)
    }

    pub(super) fn without_owner(&mut self, event: WatchEvent<TaskSetMetadata>) {
        let now = Instant::now();
        match event {
            WatchEvent::Listed { objects, .. } => {
                let all = objects.into_iter().map(|stored| stored.object.metadata);
                let all: Vec<Metadata> = all.collect();
                self.candidates.retain_without_owner(&all);
                for metadata in all {
                    let turn = self.turn(&metadata, now);
                    self.candidates.applied(metadata, turn);
                }
            }
            WatchEvent::Applied(stored) => {
                let metadata = stored.object.metadata;
                let turn = self.turn(&metadata, now);
                self.candidates.applied(metadata, turn);
            }
            WatchEvent::Deleted(stored) => {
                let uid = SetUid::of(&stored.object.metadata);
                self.candidates.without_owner_removed(&uid);
            }
        }
    }

    /// Begins all claims that are due.
    pub(super) fn claim(&mut self, now: Instant) {
        let own = self.settings.replica.clone();
        let all = self.alive();
        let is_alive = |owner: &str| owner != own && all.contains(owner);
        for metadata in self.candidates.begin(is_alive, now) {
            let kubernetes = self.kubernetes.clone();
            let replica = self.settings.replica.clone();
            self.start_work(async move {
                let claim = claim(&kubernetes, &metadata, &replica).await;
                Report::Claimed(Box::new(metadata), claim)
            });
        }
    }

    pub(super) fn claimed(&mut self, metadata: &Metadata, claim: Claim) {
        let uid = SetUid::of(metadata);
        let now = Instant::now();
        let (namespace, workflow) = (&metadata.namespace, &metadata.name);
        match claim {
            Claim::Owned(stored) => {
                let origin = self.candidates.claimed(&uid);
                tracing::debug!(namespace, workflow, ?origin, "TaskSet claimed");
                self.applied(&stored, origin);
            }
            Claim::NotOurs => self.candidates.not_ours(&uid, metadata.generation, now),
            Claim::NoWorkflow => {
                tracing::warn!(
                    namespace,
                    workflow,
                    "TaskSet ignored: it does not belong to a Workflow of its name, so Argo's controller has not made it"
                );
                self.candidates.not_ours(&uid, metadata.generation, now);
            }
            Claim::Failed(error) => {
                // A conflict is normal: another replica was faster, or the controller has changed
                // the TaskSet.
                match error.code() {
                    Some(409) => {
                        tracing::debug!(namespace, workflow, %error, "TaskSet not claimed");
                    }
                    _ => {
                        tracing::warn!(namespace, workflow, %error, "TaskSet not claimed; tried again later");
                    }
                }
                self.candidates.failed(&uid, now);
            }
        }
    }

    /// Searches for TaskSets of dead replicas: when a replica has died, and every minute.
    pub(super) fn sweep(&mut self, now: Instant) {
        let alive = self.alive();
        let has_died = self
            .swept
            .alive
            .iter()
            .any(|replica| !alive.contains(replica));
        let is_due = self.swept.next.is_none_or(|next| next <= now);
        let is_needed = self.view.is_known() && (has_died || is_due);
        if self.swept.is_running || !is_needed {
            return;
        }
        let mut listed: Vec<&str> = alive.iter().map(String::as_str).collect();
        listed.sort_unstable();
        let dead = format!("{REPLICA},{REPLICA} notin ({})", listed.join(","));
        let selection = self.settings.selection(&dead);
        self.swept.is_running = true;
        self.swept.next = Some(now + SWEEP_INTERVAL);
        self.swept.alive = alive;
        let kubernetes = self.kubernetes.clone();
        self.start_work(async move {
            let found = kubernetes.list::<TaskSetMetadata>(&selection).await;
            let found = found.map(|all| all.into_iter().map(|stored| stored.object.metadata));
            Report::Swept(found.map(Iterator::collect))
        });
    }

    pub(super) fn swept(&mut self, found: Result<Vec<Metadata>, ApiError>) {
        self.swept.is_running = false;
        let now = Instant::now();
        match found {
            Ok(found) => {
                // A TaskSet with the own label is not in the list.
                let own = self.settings.replica.clone();
                self.candidates.retain_dead(&found, &own);
                for metadata in found {
                    let turn = self.turn(&metadata, now) + CONFIRMATION;
                    self.candidates.applied(metadata, turn);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "TaskSets of dead replicas cannot be listed; tried again later");
                self.swept.next = Some(now + CONFIRMATION);
            }
        }
    }
}
