//! A double of Argo's controller, for workflows with plugin tasks.
//!
//! It does what `workflow/controller/taskset.go` and `workflow/controller/operator.go` of Argo 4.1
//! do, in the same order:
//!
//! 1. It evaluates the templates: if all nodes of a round have ended, the next round begins.
//! 2. It writes the open tasks into the task set.
//! 3. It copies results from the status of the task set. A result of an unknown node is an error,
//!    and the workflow never continues.
//! 4. It removes ended nodes from the status, and then from the tasks, with two requests.
//! 5. It stores the Workflow. If it dies before, the nodes are pending again.
//!
//! A change of the Workflow or of the task set leads to the next visit after the requeue time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::store::{Key, Part, Store};

/// A workflow: rounds of tasks. All tasks of a round are open at the same time.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Namespace of the Workflow.
    pub namespace: String,
    /// Name of the Workflow.
    pub name: String,
    /// Templates by the ids of their nodes, for each round.
    pub rounds: Vec<BTreeMap<String, Value>>,
}

/// State of a workflow.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Results of the nodes that have ended.
    pub ended: BTreeMap<String, Value>,
    /// Number of rounds that have begun.
    pub round: usize,
    /// Whether all rounds have ended, or the workflow was stopped.
    pub has_ended: bool,
    /// The node whose result stopped the workflow for good: the Workflow does not have this node.
    pub wedged: Option<String>,
    /// Nodes whose result came twice with different values.
    pub changed: BTreeSet<String>,
}

/// Where the controller dies during a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Before it removes results from the status.
    BeforeCleanup,
    /// Between the two requests that remove ended nodes.
    BetweenCleanups,
    /// After the task set was changed, and before the Workflow is stored.
    BeforeStore,
}

/// The controller. It ends with the runtime of the test. Clones share it.
#[derive(Clone, Debug)]
pub struct Controller {
    store: Store,
    requeue_time: Duration,
    shared: Arc<Mutex<BTreeMap<String, Entry>>>,
    /// The deaths of the next visits that have a result.
    deaths: Arc<Mutex<Vec<Death>>>,
    is_paused: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Entry {
    workflow: Workflow,
    /// The state as it is stored in the Workflow.
    state: State,
    visit: Option<Instant>,
    seen: u64,
}

/// The specification of a Workflow with these rounds: a step for each template of a round. Nothing
/// refers to the results.
fn specification(workflow: &Workflow) -> Value {
    let names = |round: &BTreeMap<String, Value>| -> BTreeSet<String> {
        let names = round
            .values()
            .filter_map(|template| template["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let steps = workflow.rounds.iter().map(|round| {
        let steps = names(round).into_iter();
        steps
            .map(|name| json!({"name": name, "template": name}))
            .collect::<Vec<_>>()
    });
    let all: BTreeSet<String> = workflow.rounds.iter().flat_map(names).collect();
    let main = json!({"name": "main", "steps": steps.collect::<Vec<_>>()});
    let templates: Vec<_> = all
        .into_iter()
        .map(|name| json!({"name": name}))
        .chain([main])
        .collect();
    json!({"entrypoint": "main", "templates": templates})
}

impl Controller {
    /// Starts a controller.
    pub fn start(store: Store, requeue_time: Duration) -> Self {
        let controller = Self {
            store,
            requeue_time,
            shared: Arc::default(),
            deaths: Arc::default(),
            is_paused: Arc::default(),
        };
        let running = controller.clone();
        tokio::spawn(async move { running.run().await });
        controller
    }

    /// Submits a workflow. Its name is unique.
    pub fn submit(&self, workflow: Workflow) {
        let object = json!({
            "metadata": {},
            "spec": specification(&workflow),
            "status": {"phase": "Running"},
        });
        let key = key("workflows", &workflow);
        self.store.create(&key, object).expect("a new Workflow");
        let entry = Entry {
            state: State::default(),
            visit: Some(Instant::now()),
            seen: 0,
            workflow,
        };
        self.entries().insert(entry.workflow.name.clone(), entry);
    }

    /// State of a workflow.
    pub fn state(&self, name: &str) -> State {
        self.entries()[name].state.clone()
    }

    /// States of all workflows.
    pub fn states(&self) -> BTreeMap<String, State> {
        let entries = self.entries();
        let states = entries.iter();
        states
            .map(|(name, entry)| (name.clone(), entry.state.clone()))
            .collect()
    }

    /// Stops a workflow: its open nodes fail, and leave the task set.
    pub fn stop(&self, name: &str) {
        let mut entries = self.entries();
        let entry = entries.get_mut(name).expect("a workflow");
        let rounds = entry.workflow.rounds.iter().take(entry.state.round);
        for id in rounds.flat_map(BTreeMap::keys) {
            let failed =
                json!({"phase": "Failed", "message": "workflow shutdown with strategy: Stop"});
            entry.state.ended.entry(id.clone()).or_insert(failed);
        }
        entry.workflow.rounds.truncate(entry.state.round);
        entry.visit = Some(Instant::now());
    }

    /// Deletes a workflow. Its task set is deleted with it.
    pub fn delete(&self, name: &str) {
        let entry = self.entries().remove(name).expect("a workflow");
        self.store.delete(&key("workflows", &entry.workflow));
        self.store.delete(&key("workflowtasksets", &entry.workflow));
    }

    /// Lets the controller die in its next visit that finds a result.
    pub fn die(&self, death: Death) {
        self.deaths.lock().expect("the deaths").push(death);
    }

    /// The controller does nothing until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.is_paused.store(true, Ordering::Relaxed);
    }

    /// The controller works again.
    pub fn resume(&self) {
        self.is_paused.store(false, Ordering::Relaxed);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.shared.lock().expect("the workflows")
    }

    async fn run(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.is_paused.load(Ordering::Relaxed) {
                continue;
            }
            let now = Instant::now();
            let due: Vec<String> = {
                let mut entries = self.entries();
                for entry in entries.values_mut() {
                    self.notice(entry, now);
                }
                let due = entries
                    .iter()
                    .filter(|(_, entry)| entry.visit.is_some_and(|at| at <= now));
                due.map(|(name, _)| name.clone()).collect()
            };
            for name in due {
                self.visit(&name).await;
            }
        }
    }

    /// A change of the task set leads to a visit after the requeue time.
    fn notice(&self, entry: &mut Entry, now: Instant) {
        let set = self.store.get(&key("workflowtasksets", &entry.workflow));
        let version = set.and_then(|set| set["metadata"]["resourceVersion"].as_str()?.parse().ok());
        if let Some(version) = version
            && version > entry.seen
        {
            entry.seen = version;
            if !entry.state.has_ended {
                entry.visit.get_or_insert(now + self.requeue_time);
            }
        }
    }

    async fn visit(&self, name: &str) {
        let (workflow, mut state) = {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(name) else {
                return;
            };
            entry.visit = None;
            (entry.workflow.clone(), entry.state.clone())
        };
        let before = (state.round, state.ended.len(), state.has_ended);
        if self.reconcile(&workflow, &mut state).await.is_err() {
            // The next process visits every workflow.
            let now = Instant::now();
            for entry in self.entries().values_mut() {
                entry.visit = Some(now);
            }
            return;
        }
        let changed = before != (state.round, state.ended.len(), state.has_ended);
        if let Some(entry) = self.entries().get_mut(name) {
            // A stop can come during the visit.
            for (id, node) in std::mem::take(&mut entry.state.ended) {
                state.ended.entry(id).or_insert(node);
            }
            entry.state = state;
            if changed && !entry.state.has_ended {
                entry
                    .visit
                    .get_or_insert(Instant::now() + self.requeue_time);
            }
        }
    }

    async fn reconcile(&self, workflow: &Workflow, state: &mut State) -> Result<(), Death> {
        let begun = workflow.rounds.iter().take(state.round);
        let all_ended = begun
            .flat_map(BTreeMap::keys)
            .all(|id| state.ended.contains_key(id));
        let set = key("workflowtasksets", workflow);
        if state.wedged.is_some() {
            return Ok(());
        }
        if all_ended && state.round == workflow.rounds.len() {
            state.has_ended = true;
            self.clean_up(&set, state).await?;
            let label =
                json!({"metadata": {"labels": {"workflows.argoproj.io/completed": "true"}}});
            let _ = self.store.patch(&set, Part::Main, &label);
            return Ok(());
        }
        if all_ended {
            state.round += 1;
        }
        let copied = self.copy_results(workflow, &set, state);
        if state.wedged.is_some() {
            return Ok(());
        }
        self.write_tasks(workflow, &set, state);
        if copied && self.dies(Death::BeforeCleanup) {
            return Err(Death::BeforeCleanup);
        }
        self.clean_up(&set, state).await?;
        match copied && self.dies(Death::BeforeStore) {
            true => Err(Death::BeforeStore),
            false => Ok(()),
        }
    }

    fn copy_results(&self, workflow: &Workflow, set: &Key, state: &mut State) -> bool {
        let Some(object) = self.store.get(set) else {
            return false;
        };
        let known: BTreeSet<&String> = workflow
            .rounds
            .iter()
            .take(state.round)
            .flat_map(BTreeMap::keys)
            .collect();
        let empty = Map::new();
        let nodes = object["status"]["nodes"].as_object().unwrap_or(&empty);
        let mut copied = false;
        for (id, node) in nodes {
            if !known.contains(id) {
                state.wedged = Some(id.clone());
                return false;
            }
            if matches!(
                node["phase"].as_str(),
                Some("Succeeded" | "Failed" | "Error")
            ) {
                copied = true;
                let before = state.ended.insert(id.clone(), node.clone());
                if before.is_some_and(|before| before != *node) {
                    state.changed.insert(id.clone());
                }
            }
        }
        copied
    }

    fn write_tasks(&self, workflow: &Workflow, set: &Key, state: &State) {
        let tasks = workflow.rounds.iter().take(state.round).flatten();
        let open: Map<String, Value> = tasks
            .filter(|(id, _)| !state.ended.contains_key(*id))
            .map(|(id, template)| (id.clone(), template.clone()))
            .collect();
        if open.is_empty() {
            return;
        }
        let owner = self.store.get(&key("workflows", workflow));
        let uid = owner.map_or(Value::Null, |owner| owner["metadata"]["uid"].clone());
        let object = json!({
            "metadata": {"ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": workflow.name, "uid": uid}]},
            "spec": {"tasks": open},
        });
        if self.store.create(set, object).is_err() {
            let patch = json!({
                "metadata": {"labels": {"workflows.argoproj.io/completed": "false"}},
                "spec": {"tasks": open},
            });
            let _ = self.store.patch(set, Part::Main, &patch);
        }
    }

    /// Removes the ended nodes from the status, and then from the tasks.
    async fn clean_up(&self, set: &Key, state: &State) -> Result<(), Death> {
        let nulls: Map<String, Value> = state
            .ended
            .keys()
            .map(|id| (id.clone(), Value::Null))
            .collect();
        if nulls.is_empty() {
            return Ok(());
        }
        let _ = self
            .store
            .patch(set, Part::Status, &json!({"status": {"nodes": nulls}}));
        // The limit on the controller's requests delays the second one.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
        if self.dies(Death::BetweenCleanups) {
            return Err(Death::BetweenCleanups);
        }
        let _ = self
            .store
            .patch(set, Part::Main, &json!({"spec": {"tasks": nulls}}));
        Ok(())
    }

    fn dies(&self, here: Death) -> bool {
        let mut deaths = self.deaths.lock().expect("the deaths");
        let at = deaths.iter().position(|death| *death == here);
        at.map(|at| deaths.remove(at)).is_some()
    }
}

fn key(kind: &str, workflow: &Workflow) -> Key {
    (
        kind.to_owned(),
        workflow.namespace.clone(),
        workflow.name.clone(),
    )
}
