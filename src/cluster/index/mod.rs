//! The index: a pure state machine that decides when a task starts, and when it is cancelled.
//!
//! Versions of TaskSets and ends of executions go in. Starts and cancellations come out. The index
//! does no I/O and reads no clock. It knows the TaskSets that this replica has claimed.
//!
//! The controller's behaviour is that of `workflow/controller/taskset.go` of Argo 4.1. It gives
//! these rules:
//!
//! - A task starts once. The index keeps its result until the task has left the TaskSet: the
//!   controller first removes the result, and then the task. In between, the task looks new.
//! - A task of a claimed TaskSet that another replica has served, or an earlier process of this
//!   replica, may be in that state. So it starts only after [`DOUBT`], if it still has no result.
//! - A task that leaves the TaskSet without a result is cancelled: no node waits for it.
//! - The controller removes a task before it stores the result in the Workflow. If it cannot store
//!   the result, the same task comes back. So the index keeps results of phase `Succeeded`, and
//!   answers such a task with its kept result.
//! - The index may not see that a task has left and come back. If a result has left the TaskSet,
//!   and its task is still there after [`DOUBT`], the index writes the result again.
//! - If the Workflow ends, the index forgets everything about it. A manual retry uses the same ids
//!   of nodes, and runs its tasks again.

mod memory;
mod task;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ids::{NodeId, SetUid, TaskKey};
use super::results::NodeReport;
use crate::argo::task_set::{ReportedNode, TaskSet, TemplateKinds};
use crate::kubernetes::{Listed, Stored, Version};
use crate::step::Workflow;
use memory::Memory;
use task::{Delivery, RunningReport, State, Task, TemplateDigest, Tick};

/// Time after which a task without a result is new, and not a task whose result the controller has
/// just removed. The controller makes two requests in a row. Its own limit on requests can delay
/// the second one.
pub(super) const DOUBT: Duration = Duration::from_secs(5);

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Run the task, and call [`Index::finished`] with its result.
    Start {
        /// The task.
        task: TaskKey,
        /// The Workflow of the task.
        workflow: Workflow,
        /// The template.
        template: Value,
    },
    /// Write the results of the TaskSet.
    Write(SetUid),
    /// Interrupt the task, if it runs. Its result is not needed any more.
    Forget(TaskKey),
}

/// All TaskSets that this replica has claimed.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The kinds of tasks of this replica.
    kinds: TemplateKinds,
    sets: HashMap<SetUid, Set>,
    memory: Memory,
    /// When to look at the tasks that wait.
    timers: BTreeSet<(Instant, TaskKey)>,
}

/// One claimed TaskSet.
#[derive(Debug)]
pub(super) struct Set {
    workflow: Workflow,
    version: Version,
    /// Size of the object, in bytes.
    bytes: usize,
    /// Until then, a task without a result may have a result that the controller has just removed.
    doubt: Option<Instant>,
    /// The tasks of this replica in `spec.tasks`.
    tasks: HashMap<NodeId, Task>,
}

/// How this replica got a TaskSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// No replica has served the TaskSet before: its tasks are new.
    New,
    /// Another replica or another process may have served the TaskSet.
    TakenOver,
}

impl Index {
    /// An empty index for tasks of these kinds.
    pub(super) fn new(kinds: TemplateKinds) -> Self {
        Self {
            kinds,
            ..Self::default()
        }
    }

    /// Takes a version of a TaskSet. `origin` says how this replica got a TaskSet that the index
    /// does not know.
    pub(super) fn applied(
        &mut self,
        stored: &Stored<TaskSet>,
        origin: Origin,
        now: Instant,
    ) -> Vec<Action> {
        let metadata = &stored.object.metadata;
        let uid = SetUid::of(metadata);
        let version = metadata.resource_version.clone();
        let workflow = stored.object.workflow();
        let Some(workflow) = workflow.filter(|_| !stored.object.has_ended()) else {
            return self.removed(&uid, &version);
        };
        let set = self.sets.entry(uid.clone()).or_insert_with(|| Set {
            workflow,
            version: version.clone(),
            bytes: 0,
            doubt: (origin == Origin::TakenOver).then(|| now + DOUBT),
            tasks: HashMap::new(),
        });
        // The answer to a patch can overtake an earlier version in the watch.
        if version.is_older_than(&set.version) {
            return Vec::new();
        }
        set.version = version;
        set.bytes = stored.bytes;
        let mut context = Context {
            uid: &uid,
            kinds: self.kinds,
            now,
            memory: &mut self.memory,
            timers: &mut self.timers,
        };
        let mut actions = set.remove_absent(&stored.object, &mut context);
        actions.extend(set.add_present(&stored.object, context));
        actions
    }

    /// At this version, the TaskSet is deleted, completed, or claimed by another replica. Ignored
    /// if the index knows a later version.
    pub(super) fn removed(&mut self, uid: &SetUid, version: &Version) -> Vec<Action> {
        let known = self.sets.get(uid);
        if known.is_some_and(|known| version.is_older_than(&known.version)) {
            return Vec::new();
        }
        self.forgotten(uid)
    }

    /// The TaskSet does not exist, or does not belong to this replica.
    pub(super) fn forgotten(&mut self, uid: &SetUid) -> Vec<Action> {
        self.memory.forget_set(uid);
        let Some(set) = self.sets.remove(uid) else {
            return Vec::new();
        };
        let nodes = set.tasks.keys();
        nodes
            .map(|node| Action::Forget(TaskKey::new(uid, node)))
            .collect()
    }

    /// Takes the list of all TaskSets that have the label of this replica. Forgets the others,
    /// except TaskSets that this replica has claimed since.
    pub(super) fn listed(&mut self, listed: &Listed) -> Vec<Action> {
        let gone = self.sets.iter().filter(|(uid, set)| {
            let is_newer = listed.version.is_older_than(&set.version);
            !listed.uids.contains(&***uid) && !is_newer
        });
        let gone: Vec<SetUid> = gone.map(|(uid, _)| uid.clone()).collect();
        gone.iter().flat_map(|uid| self.forgotten(uid)).collect()
    }

    /// A task does not start in this replica: the next owner of the TaskSet starts it.
    pub(super) fn left_to_others(&mut self, task: &TaskKey) {
        if let Some(known) = self.task(task) {
            known.state = State::LeftToOthers;
        }
    }

    /// The execution of a task has ended. Ignored if the task has left the TaskSet meanwhile.
    pub(super) fn finished(&mut self, task: &TaskKey, report: NodeReport) {
        if let Some(task) = self.task(task).filter(|task| task.is_running()) {
            task.state = State::Ended {
                report,
                delivery: Delivery::Unwritten,
            };
        }
    }

    /// Starts the tasks that have waited until `now`, and writes results again that the controller
    /// has not stored.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, task)) = self.timers.pop_first()
        {
            let Some(set) = self.sets.get_mut(&task.set) else {
                continue;
            };
            match set.tasks.get_mut(&task.node).map(|task| task.tick(now)) {
                Some(Tick::Start(template)) => actions.push(Action::Start {
                    task,
                    workflow: set.workflow.clone(),
                    template,
                }),
                Some(Tick::Write) => actions.push(Action::Write(task.set)),
                Some(Tick::Nothing) | None => {}
            }
        }
        actions
    }

    /// When to call [`tick`](Self::tick) next.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The TaskSet, if this replica has claimed it.
    pub(super) fn set(&self, uid: &SetUid) -> Option<&Set> {
        self.sets.get(uid)
    }

    /// The controller must learn that the task runs. Otherwise it would end the node after the
    /// template's `timeout`.
    pub(super) fn report_running(&mut self, task: &TaskKey) {
        if let Some(State::Runs { report }) = self.task(task).map(|task| &mut task.state)
            && *report == RunningReport::NotNeeded
        {
            *report = RunningReport::Unwritten;
        }
    }

    /// The API server refuses the result of a task: it is replaced by `report`.
    pub(super) fn replaced(&mut self, task: &TaskKey, report: NodeReport) {
        if let Some(State::Ended { report: own, .. }) = self.task(task).map(|task| &mut task.state)
        {
            *own = report;
        }
    }

    /// Number of TaskSets that this replica has claimed.
    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }

    /// The Workflow of a result that was written more than `longest` ago, and is still in its
    /// TaskSet.
    pub(super) fn with_old_result(&self, longest: Duration, now: Instant) -> Option<&Workflow> {
        let is_old = |task: &Task| {
            let since = task.written_since();
            since.is_some_and(|since| now.saturating_duration_since(since) >= longest)
        };
        let old = |set: &&Set| set.tasks.values().any(is_old);
        self.sets.values().find(old).map(Set::workflow)
    }

    /// The TaskSets in which no task runs, and whose results are written.
    pub(super) fn settled(&self) -> impl Iterator<Item = (&SetUid, &Set)> {
        let is_settled = |set: &Set| set.tasks.values().all(Task::is_settled);
        self.sets.iter().filter(move |(_, set)| is_settled(set))
    }

    /// The TaskSets in which no task runs, and whose results the controller has taken.
    pub(super) fn idle(&self) -> impl Iterator<Item = (&SetUid, &Set)> {
        self.sets
            .iter()
            .filter(|(_, set)| set.tasks.values().all(Task::is_new))
    }

    /// These reports were written into the TaskSet, which then had this version.
    pub(super) fn written(
        &mut self,
        uid: &SetUid,
        reports: &[(NodeId, NodeReport)],
        version: &Version,
        now: Instant,
    ) {
        let Some(set) = self.sets.get_mut(uid) else {
            return;
        };
        // A later version can have been seen already, in which the controller has removed the
        // results.
        let is_outdated = version.is_older_than(&set.version);
        for (node, report) in reports {
            let Some(task) = set.tasks.get_mut(node) else {
                continue;
            };
            let until = now + DOUBT;
            let may_be_removed = is_outdated.then_some(until);
            if task.written(report, may_be_removed, now) {
                self.timers.insert((until, TaskKey::new(uid, node)));
            }
        }
    }

    fn task(&mut self, key: &TaskKey) -> Option<&mut Task> {
        self.sets.get_mut(&key.set)?.tasks.get_mut(&key.node)
    }
}

impl Set {
    /// The Workflow of the TaskSet.
    pub(super) fn workflow(&self) -> &Workflow {
        &self.workflow
    }

    /// The version of the object that the index knows.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// Size of the object, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The results that are not in the TaskSet yet.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = (&NodeId, NodeReport)> {
        self.tasks
            .iter()
            .filter_map(|(node, task)| Some((node, task.unwritten()?)))
    }

    /// Whether a task runs or waits.
    pub(super) fn is_busy(&self) -> bool {
        self.tasks.values().any(Task::is_open)
    }

    /// Whether the controller still has to remove a result, or a task still runs or waits.
    pub(super) fn will_change(&self) -> bool {
        self.tasks.values().any(|task| task.unwritten().is_none())
    }

    /// Removes the tasks that have left the TaskSet.
    fn remove_absent(&mut self, set: &TaskSet, context: &mut Context<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.tasks.retain(|node, task| {
            let template = set.spec.tasks.get(&**node);
            let is_present = template.is_some_and(|template| context.kinds.include(template));
            if !is_present {
                let key = context.key(node);
                actions.push(Action::Forget(key.clone()));
                if let Some(report) = task.result() {
                    context.memory.keep(key, task.template, report);
                }
            }
            is_present
        });
        actions
    }

    /// Adds the tasks that are new in the TaskSet.
    fn add_present(&mut self, set: &TaskSet, mut context: Context<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let kinds = context.kinds;
        let tasks = set.spec.tasks.iter();
        for (node, template) in tasks.filter(|(_, template)| kinds.include(template)) {
            let reported = set.status.nodes.get(node);
            let has_result = reported.is_some_and(ReportedNode::has_ended);
            match self.tasks.get_mut(node.as_str()) {
                // The result is from an earlier patch whose answer was lost, or from another
                // process.
                Some(known) if has_result => {
                    if !known.has_result(context.now) {
                        actions.push(Action::Forget(context.key(node)));
                    }
                }
                Some(known) => {
                    let until = context.now + DOUBT;
                    if known.has_no_result(template, until) {
                        context.timers.insert((until, context.key(node)));
                    }
                }
                None => {
                    let task = context.key(node);
                    let digest = TemplateDigest::of(template);
                    let state = match has_result {
                        true => State::Answered,
                        false => self.first_state(&task, template, digest, &mut context),
                    };
                    if let State::Runs { .. } = state {
                        actions.push(Action::Start {
                            task: task.clone(),
                            workflow: self.workflow.clone(),
                            template: template.clone(),
                        });
                    }
                    let template = digest;
                    self.tasks.insert(task.node, Task { template, state });
                }
            }
        }
        actions
    }

    /// The first state of a task that has no result.
    fn first_state(
        &self,
        task: &TaskKey,
        template: &Value,
        digest: TemplateDigest,
        context: &mut Context<'_>,
    ) -> State {
        if let Some(at) = self.doubt.filter(|doubt| *doubt > context.now) {
            context.timers.insert((at, task.clone()));
            let template = template.clone();
            return State::Waits { template, at };
        }
        match context.memory.take(task, digest) {
            Some(report) => State::Ended {
                report,
                delivery: Delivery::Unwritten,
            },
            None => State::RUNS,
        }
    }
}

/// What the index knows besides the TaskSet.
struct Context<'a> {
    uid: &'a SetUid,
    kinds: TemplateKinds,
    now: Instant,
    memory: &'a mut Memory,
    timers: &'a mut BTreeSet<(Instant, TaskKey)>,
}

impl Context<'_> {
    fn key(&self, node: &str) -> TaskKey {
        TaskKey::new(self.uid, &node.into())
    }
}

#[cfg(test)]
mod tests;
