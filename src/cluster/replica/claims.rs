//! Claims of a replica: it becomes the owner of TaskSets that have no living owner.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::search::{Found, find};
use super::{Replica, Report};
use crate::argo::task_set::TaskSetMetadata;
use crate::cluster::claim::{Claim, claim};
use crate::cluster::members::{LONGEST_GAP, Lease, rank};
use crate::cluster::target::{REPLICA, Target};
use crate::kubernetes::{ApiError, WatchEvent};

/// Time between the claims of two replicas for one TaskSet. Usually the first one succeeds.
const TURN: Duration = Duration::from_millis(300);
/// Time between two searches for TaskSets of dead replicas.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// Time after which a search that failed is tried again.
const SWEEP_RETRY: Duration = Duration::from_secs(2);
/// With this number of open steps for each slot, the other replicas claim first.
const BUSY: usize = 2;

impl Replica {
    pub(super) fn lease(&mut self, event: WatchEvent<Lease>) {
        let now = Instant::now();
        self.view.watched(now, LONGEST_GAP);
        match event {
            WatchEvent::Listed(listed) => self.view.listed(&listed),
            WatchEvent::Applied(stored) => self.view.applied(&stored.object),
            WatchEvent::Deleted(removed) => self.view.deleted(&removed.name),
        }
    }

    /// The replicas that are alive, with this one.
    fn alive(&self) -> HashSet<String> {
        let others = self.view.alive().map(str::to_owned);
        others.chain([self.settings.replica.clone()]).collect()
    }

    /// When this replica may claim a TaskSet: the other replicas have their turns, too. A replica
    /// whose steps wait for slots comes after all others.
    fn turn(&self, target: &Target, now: Instant) -> Instant {
        let serves = self.settings.serves();
        let others = || self.view.peers(&serves);
        let mut turns = rank(&self.settings.replica, others(), &target.uid);
        if self.open >= BUSY * self.settings.slots {
            turns += others().count();
        }
        now + TURN * u32::try_from(turns).unwrap_or(u32::MAX).min(100)
    }

    pub(super) fn without_owner(&mut self, event: WatchEvent<TaskSetMetadata>) {
        let now = Instant::now();
        match event {
            WatchEvent::Listed(listed) => self.candidates.listed_without_owner(&listed),
            WatchEvent::Applied(stored) => {
                let target = Target::of(&stored.object.metadata);
                let turn = self.turn(&target, now);
                self.candidates.applied(target, turn, now);
            }
            WatchEvent::Deleted(removed) => {
                let uid = removed.uid.as_str().into();
                self.candidates.without_owner_removed(&uid);
            }
        }
    }

    /// Begins all claims that are due.
    pub(super) fn claim(&mut self, now: Instant) {
        let own = self.settings.replica.clone();
        let all = self.alive();
        let is_alive = |owner: &str| owner != own && all.contains(owner);
        // Another replica can run the tasks of a namespace whose tasks wait here for memory. No
        // other replica takes a TaskSet with the own label.
        let waiting = &self.waiting;
        let may_claim = |target: &Target| {
            target.owner.as_ref() == Some(&own) || waiting.has_room_for(&target.namespace)
        };
        for target in self.candidates.begin(is_alive, may_claim, now) {
            let kubernetes = self.kubernetes.clone();
            let replica = self.settings.replica.clone();
            let kinds = self.runners.kinds();
            self.start_work(async move {
                let claim = claim(&kubernetes, &target, &replica, kinds).await;
                Report::Claimed(Box::new(target), claim)
            });
        }
    }

    pub(super) fn claimed(&mut self, target: &Target, claim: Claim) {
        let uid = &target.uid;
        let now = Instant::now();
        if !matches!(claim, Claim::Owned(..)) {
            self.verifying.remove(uid);
        }
        let (namespace, workflow) = (&target.namespace, &target.name);
        self.metrics.claim_ended(claim.name());
        match claim {
            Claim::Owned(stored, object) => {
                let metadata = &stored.object.metadata;
                let claimed = self.candidates.claimed(uid, &metadata.resource_version);
                let later = self.verifying.remove(uid);
                let Some(origin) = claimed else {
                    return;
                };
                tracing::debug!(namespace, workflow, ?origin, "TaskSet claimed");
                let executions = Arc::clone(&self.runners.executions);
                let learn = async move { executions.result_uses.learn(*object).await };
                self.work.tracker.spawn(learn);
                self.applied(&stored, origin);
                if let Some(later) = later {
                    self.applied(&later, origin);
                }
            }
            Claim::NotOurs(generation) => self.candidates.not_ours(uid, generation, now),
            Claim::Gone => self.candidates.gone(target, now),
            Claim::NoWorkflow(generation) => {
                if self.candidates.is_first_warning(uid) {
                    tracing::warn!(
                        namespace,
                        workflow,
                        "TaskSet ignored: it does not belong to a Workflow of its name, so Argo's controller has not made it"
                    );
                }
                self.candidates.not_ours(uid, generation, now);
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
                self.candidates.failed(uid, now);
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
        let leases = self.leases();
        self.start_work(async move { Report::Swept(find(&kubernetes, &selection, &leases).await) });
    }

    pub(super) fn swept(&mut self, found: Result<Found, ApiError>) {
        self.swept.is_running = false;
        let now = Instant::now();
        match found {
            Ok(Found { sets, leases }) => {
                // The watch of Leases can be behind.
                for lease in &leases {
                    self.view.applied(lease);
                }
                // A TaskSet with the own label is not in the list.
                let own = self.settings.replica.clone();
                self.candidates.retain_dead(&sets, &own);
                for target in sets {
                    let turn = self.turn(&target, now);
                    self.candidates.applied(target, turn, now);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "TaskSets of dead replicas cannot be listed; tried again later");
                self.swept.next = Some(now + SWEEP_RETRY);
            }
        }
    }
}
