//! The loop of a replica: events go into the index, and its actions are carried out.

mod claims;
mod clean_up;
mod drain;
mod running;
mod search;
mod settings;
mod tasks;
mod writes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::candidates::{Candidates, ClaimOnItsWay};
use super::claim::Claim;
use super::execution::TaskRunners;
use super::ids::{SetUid, TaskKey};
use super::index::{Index, Origin};
use super::members::{Held, Lease, Renewal, View};
use super::pace::Pace;
use super::results::NodeReport;
use super::target::{REPLICA, Target, owner};
use super::waiting::Waiting;
use super::writer::Written;
use crate::argo::task_set::{TaskSet, TaskSetMetadata};
use crate::executions::Room;
use crate::kubernetes::{
    ApiError, Kubernetes, Removed, Resource, Selection, Stored, Version, WatchEvent,
};
use crate::telemetry::Metrics;
use clean_up::CleanUp;
use running::Running;
use search::Found;

pub use settings::Settings;

/// Number of events that wait for the loop. An event can have a whole TaskSet.
const QUEUE: usize = 8;
/// Longest wait for executions to end after the Lease was lost.
const AFTER_FENCE: Duration = Duration::from_secs(3);
/// Longest time between two rounds of the loop.
const IDLE: Duration = Duration::from_secs(1);

/// The replica has lost its Lease: another replica may serve its TaskSets now.
#[derive(Debug, thiserror::Error)]
#[error(
    "the Lease of this replica could not be renewed in time: other replicas may take its Workflows"
)]
pub struct Fenced;

/// A replica: one process that serves TaskSets.
#[derive(Debug)]
pub struct Replica {
    settings: Settings,
    kubernetes: Kubernetes,
    runners: TaskRunners,
    room: Room,
    /// Cancels all executions, and ends the loop.
    shutdown: CancellationToken,
    metrics: Metrics,
    index: Index,
    candidates: Candidates,
    view: View,
    swept: Sweep,
    /// The tasks that run, and those whose results are kept.
    running: HashMap<TaskKey, Running>,
    /// Number of executions that were started.
    started: u64,
    /// Number of executions that have not ended.
    open: usize,
    /// The tasks that wait for memory.
    waiting: Waiting,
    paces: HashMap<SetUid, Pace>,
    /// The TaskSets that may have results to write.
    unwritten: HashSet<SetUid>,
    /// Number of writes on their way.
    writing: usize,
    /// The last versions of TaskSets with the own label, while a claim verifies them.
    verifying: HashMap<SetUid, Stored<TaskSet>>,
    /// Whether the replica has a Lease, for its readiness.
    has_lease: Arc<AtomicBool>,
    /// Whether the replica may claim TaskSets.
    may_claim: bool,
    /// Whether the replica gives its TaskSets back.
    is_draining: bool,
    /// The TaskSets that are being given back.
    releasing: HashSet<SetUid>,
    /// Since when no task of a TaskSet runs, and all results are written. Only during the drain.
    settled: HashMap<SetUid, Instant>,
    /// The controller's removal of results.
    cleanup: CleanUp,
    work: Work,
    /// Start of the replica.
    begun: Instant,
}

/// The searches for TaskSets of dead replicas.
#[derive(Debug, Default)]
struct Sweep {
    is_running: bool,
    /// When the next search begins.
    next: Option<Instant>,
    /// The replicas that were alive at the last search.
    alive: HashSet<String>,
}

/// Work beside the loop. Its results come back as reports.
#[derive(Debug)]
struct Work {
    tracker: TaskTracker,
    reports: mpsc::UnboundedSender<Report>,
    received: Option<mpsc::UnboundedReceiver<Report>>,
}

/// Result of work that the loop has started.
#[derive(Debug)]
enum Report {
    /// A claim has ended.
    Claimed(Box<Target>, Claim),
    /// A search for TaskSets of dead replicas has ended.
    Swept(Result<Found, ApiError>),
    /// A TaskSet was given back.
    Released(SetUid, Result<(), ApiError>),
    /// The controller must learn that the task runs.
    StillRuns(TaskKey, u64),
    /// An execution has ended.
    Finished(TaskKey, u64, NodeReport),
    /// A write has ended.
    Written(Box<Written>),
}

impl Replica {
    /// Makes a replica. `room` limits the memory of executions. `shutdown` ends the replica, and
    /// cancels its executions. `metrics` counts claims and writes. `has_lease` is set as soon as
    /// the replica has its Lease.
    pub fn new(
        settings: Settings,
        kubernetes: Kubernetes,
        runners: TaskRunners,
        room: Room,
        shutdown: CancellationToken,
        metrics: Metrics,
        has_lease: Arc<AtomicBool>,
    ) -> Self {
        let (reports, received) = mpsc::unbounded_channel();
        Self {
            settings,
            kubernetes,
            index: Index::new(runners.kinds()),
            runners,
            room,
            shutdown,
            metrics,
            candidates: Candidates::default(),
            view: View::default(),
            swept: Sweep::default(),
            running: HashMap::new(),
            started: 0,
            open: 0,
            waiting: Waiting::default(),
            paces: HashMap::new(),
            unwritten: HashSet::new(),
            may_claim: false,
            writing: 0,
            verifying: HashMap::new(),
            has_lease,
            is_draining: false,
            releasing: HashSet::new(),
            settled: HashMap::new(),
            cleanup: CleanUp::default(),
            work: Work {
                tracker: TaskTracker::new(),
                reports,
                received: Some(received),
            },
            begun: Instant::now(),
        }
    }

    /// Serves TaskSets until the shutdown, or until all TaskSets are given back after `stop`. Then
    /// writes the results of steps that had ended, and waits until all executions have ended.
    ///
    /// # Errors
    ///
    /// The Lease could not be renewed in time. All executions are cancelled.
    pub async fn serve(mut self, stop: CancellationToken) -> Result<(), Fenced> {
        let Some(mut reports) = self.work.received.take() else {
            return Ok(());
        };
        let identity = self.settings.identity(self.kubernetes.own_namespace());
        let (renewal, renewed) = Renewal::new(self.kubernetes.clone(), identity);
        let renewal = tokio::spawn(renewal.run());
        let mut leases = self.watch_selection::<Lease>(self.leases());
        let mut without_owner = self.watch::<TaskSetMetadata>(&format!("!{REPLICA}"));
        let replica = &self.settings.replica;
        let mut owned = self.watch::<TaskSet>(&format!("{REPLICA}={replica}"));
        let shutdown = self.shutdown.clone();
        let mut fenced = Ok(());
        while !shutdown.is_cancelled() && !self.is_drained() {
            let wake = self.wake(Instant::now());
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = stop.cancelled(), if !self.is_draining => self.drain(),
                () = tokio::time::sleep_until(wake.into()) => {}
                Some(report) = reports.recv() => self.take(report),
                Some(event) = leases.recv() => self.lease(event),
                Some(event) = without_owner.recv() => self.without_owner(event),
                Some(event) = owned.recv() => self.owned(event),
            }
            if self.is_fenced(&renewed) {
                // The Lease stays: the other replicas must wait until this one is silent.
                renewal.abort();
                shutdown.cancel();
                fenced = Err(Fenced);
                break;
            }
            // Without a Lease, the other replicas would take the TaskSets at once. Without the
            // executor, a replica that cannot be set up would hold TaskSets.
            let has_lease = *renewed.borrow() != Held::NotYet;
            self.has_lease.store(has_lease, Ordering::Relaxed);
            self.may_claim = has_lease && self.runners.executions.is_ready() && !self.is_draining;
            self.advance(Instant::now());
        }
        if fenced.is_ok() {
            self.write_the_rest().await;
        }
        self.work.tracker.close();
        // After the loss of the Lease, the process ends soon. Otherwise the caller has a limit.
        let longest = match fenced {
            Ok(()) => Duration::MAX,
            Err(Fenced) => AFTER_FENCE,
        };
        let _ = tokio::time::timeout(longest, self.work.tracker.wait()).await;
        drop(renewed);
        if fenced.is_ok() {
            let _ = renewal.await;
        }
        fenced
    }

    /// Starts work beside the loop. Its report comes back to the loop.
    fn start_work(&self, work: impl Future<Output = Report> + Send + 'static) {
        let reports = self.work.reports.clone();
        self.work.tracker.spawn(async move {
            let _ = reports.send(work.await);
        });
    }

    /// Watches the TaskSets of the settings that have these labels too.
    fn watch<T: Resource + Send + 'static>(&self, labels: &str) -> mpsc::Receiver<WatchEvent<T>> {
        self.watch_selection(self.settings.selection(labels))
    }

    /// The Leases of all replicas.
    fn leases(&self) -> Selection {
        Selection {
            namespace: Some(self.kubernetes.own_namespace().to_owned()),
            labels: Renewal::labels(),
        }
    }

    fn watch_selection<T: Resource + Send + 'static>(
        &self,
        selection: Selection,
    ) -> mpsc::Receiver<WatchEvent<T>> {
        let (events, received) = mpsc::channel(QUEUE);
        let kubernetes = self.kubernetes.clone();
        tokio::spawn(async move { kubernetes.watch(selection, events).await });
        received
    }

    /// Whether the Lease was renewed too long ago. The other replicas wait for a longer time, so
    /// this replica is silent before they begin.
    fn is_fenced(&self, renewed: &watch::Receiver<Held>) -> bool {
        let held = match *renewed.borrow() {
            Held::NotYet => Held::Since(self.begun),
            held => held,
        };
        held.is_lost(Instant::now(), self.settings.fence_after())
    }

    /// Time at which the loop has something to do without an event.
    fn wake(&self, now: Instant) -> Instant {
        let claims = self.candidates.next().filter(|_| self.may_claim);
        let times = [self.index.next_tick(), claims];
        let writes = self.unwritten.iter();
        let writes = writes.filter_map(|uid| self.next_write(uid, now));
        let times = times.into_iter().flatten().chain(writes);
        times.min().unwrap_or(now + IDLE).min(now + IDLE)
    }

    /// Starts everything that is due.
    fn advance(&mut self, now: Instant) {
        let actions = self.index.tick(now);
        self.carry_out(actions);
        self.start_waiting();
        if self.may_claim {
            self.sweep(now);
            self.claim(now);
        }
        self.write(now);
        self.metrics.task_sets(self.index.len());
        let longest = 10 * self.settings.requeue_time;
        self.cleanup.check(&self.index, longest, now);
        if self.is_draining {
            self.release();
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Claimed(target, claim) => self.claimed(&target, claim),
            Report::Swept(found) => self.swept(found),
            Report::Released(uid, released) => self.released(&uid, released),
            Report::StillRuns(task, number) => self.still_runs(&task, number),
            Report::Finished(task, number, report) => self.finished(&task, number, report),
            Report::Written(written) => self.written(*written),
        }
    }

    fn owned(&mut self, event: WatchEvent<TaskSet>) {
        match event {
            WatchEvent::Listed(listed) => {
                let actions = self.index.listed(&listed);
                self.carry_out(actions);
                let own = &self.settings.replica;
                self.candidates.listed_with_label(&listed, own);
                let index = &self.index;
                self.paces.retain(|uid, _| index.set(uid).is_some());
                self.unwritten.retain(|uid| index.set(uid).is_some());
            }
            WatchEvent::Applied(stored) => self.owned_set(stored),
            WatchEvent::Deleted(Removed { uid, version, .. }) => {
                let uid = uid.as_str().into();
                self.candidates.removed(&uid, &version);
                self.verifying.remove(&uid);
                self.removed(&uid, &version);
            }
        }
    }

    /// Takes a version of a TaskSet that has the label of this replica.
    fn owned_set(&mut self, stored: Stored<TaskSet>) {
        let metadata = &stored.object.metadata;
        let uid = SetUid::of(metadata);
        match self.candidates.claim_of(metadata) {
            _ if self.index.set(&uid).is_some() => self.applied(&stored, Origin::TakenOver),
            ClaimOnItsWay::Succeeded(origin) => self.applied(&stored, origin),
            ClaimOnItsWay::Outdated => {}
            ClaimOnItsWay::Verifies => drop(self.verifying.insert(uid, stored)),
            // An earlier process of this replica has claimed the TaskSet, or a tenant has set the
            // label. The claim verifies the Workflow.
            ClaimOnItsWay::None => {
                let now = Instant::now();
                self.candidates.applied(Target::of(metadata), now, now);
            }
        }
    }

    /// Takes a version of a TaskSet that this replica owned when the version was read or watched.
    fn applied(&mut self, stored: &Stored<TaskSet>, origin: Origin) {
        let metadata = &stored.object.metadata;
        let uid = SetUid::of(metadata);
        if owner(metadata) != Some(&self.settings.replica) {
            return self.removed(&uid, &metadata.resource_version);
        }
        let actions = self.index.applied(stored, origin, Instant::now());
        self.metrics.task_set_bytes(stored.bytes);
        self.unwritten.insert(uid);
        self.carry_out(actions);
    }

    /// At this version, a TaskSet is deleted, completed, or has another owner.
    fn removed(&mut self, uid: &SetUid, version: &Version) {
        let actions = self.index.removed(uid, version);
        self.carry_out(actions);
        self.clean_up(uid);
    }

    /// A TaskSet does not exist, or does not belong to this replica.
    fn forgotten(&mut self, uid: &SetUid) {
        let actions = self.index.forgotten(uid);
        self.carry_out(actions);
        self.clean_up(uid);
    }

    fn clean_up(&mut self, uid: &SetUid) {
        if self.index.set(uid).is_none() {
            self.paces.remove(uid);
            self.unwritten.remove(uid);
            self.releasing.remove(uid);
        }
    }
}
