//! Tests of the index: single rules, and random histories against a model of the controller.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::argo::{NodePhase, NodeResult, Reply};

fn report(phase: NodePhase) -> NodeReport {
    NodeReport::of(Reply {
        node: Some(NodeResult {
            phase: Some(phase),
            ..NodeResult::default()
        }),
        requeue: None,
    })
}

/// A TaskSet, and the Workflow behind it, as the controller has them.
#[derive(Clone, Default)]
struct World {
    version: u64,
    /// `spec.tasks`
    tasks: BTreeSet<String>,
    /// `status.nodes`
    results: BTreeSet<String>,
    /// The nodes that have ended in the stored Workflow.
    stored: BTreeSet<String>,
    completed: bool,
}

impl World {
    fn version(&self) -> Version {
        self.version.to_string().as_str().into()
    }

    fn object(&self) -> Stored<TaskSet> {
        let template = json!({"name": "t", "plugin": {"wasm": {}}});
        let tasks: BTreeMap<_, _> = self.tasks.iter().map(|id| (id, &template)).collect();
        let ended = json!({"phase": "Succeeded"});
        let nodes: BTreeMap<_, _> = self.results.iter().map(|id| (id, &ended)).collect();
        let object = json!({
            "metadata": {
                "name": "wf", "namespace": "n", "uid": "u", "resourceVersion": self.version.to_string(),
                "labels": {"workflows.argoproj.io/completed": self.completed.to_string()},
                "ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "wf", "uid": "w"}],
            },
            "spec": {"tasks": tasks}, "status": {"nodes": nodes},
        });
        let bytes = object.to_string().len();
        let object = go_json::from_value(&object).unwrap();
        Stored { object, bytes }
    }
}

/// A replica and the controller, with a clock.
struct Fixture {
    world: World,
    index: Index,
    now: Instant,
    running: BTreeSet<String>,
    /// Number of starts of each task in this life of the replica.
    starts: BTreeMap<String, usize>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            world: World::default(),
            index: Index::default(),
            now: Instant::now(),
            running: BTreeSet::new(),
            starts: BTreeMap::new(),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        self.world.version += 1;
    }

    /// The replica sees the latest version.
    fn see(&mut self) {
        self.see_as(Origin::New);
    }

    fn see_as(&mut self, origin: Origin) {
        let object = self.world.object();
        let actions = self.index.applied(&object, origin, self.now);
        self.take(actions);
    }

    /// The watch begins again with a list.
    fn list(&mut self) {
        if self.index.set(&"u".into()).is_some() {
            self.see();
        }
        let listed = Listed {
            uids: ["u".to_owned()].into(),
            version: self.world.version(),
        };
        let actions = self.index.listed(&listed);
        self.take(actions);
    }

    /// The process ends, and another one takes the TaskSet.
    fn restart(&mut self) {
        self.index = Index::default();
        self.running.clear();
        self.see_as(Origin::TakenOver);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { task, .. } => {
                    assert!(
                        self.running.insert(task.node.to_string()),
                        "already runs: {task:?}"
                    );
                    *self.starts.entry(task.node.to_string()).or_default() += 1;
                }
                Action::Write(_) => {}
                Action::Forget(task) => {
                    self.running.remove(&*task.node);
                }
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        let actions = self.index.tick(self.now);
        self.take(actions);
    }

    fn finish(&mut self, node: &str, phase: NodePhase) {
        if self.running.remove(node) {
            let task = TaskKey::new(&"u".into(), &node.into());
            self.index.finished(&task, report(phase));
        }
    }

    /// Writes all results with the version that the index knows. If the TaskSet has changed since,
    /// the replica sees the latest version. The answer to the write can be lost.
    fn write(&mut self, answered: bool) {
        let uid: SetUid = "u".into();
        let Some(set) = self.index.set(&uid) else {
            return;
        };
        let reports: Vec<_> = set
            .unwritten()
            .map(|(node, report)| (node.clone(), report))
            .collect();
        if reports.is_empty() {
            return;
        }
        if *set.version() != self.world.version() {
            return self.see();
        }
        self.change(|world| {
            for (node, _) in &reports {
                assert!(
                    world.tasks.contains(&**node),
                    "a result of a task that has left: {node}"
                );
                world.results.insert(node.to_string());
            }
        });
        if answered {
            let version = self.world.version();
            self.index.written(&uid, &reports, &version, self.now);
            self.see();
        }
    }

    /// The controller takes the results. Each of its writes can be seen by the replica.
    fn visit(&mut self, seen: [bool; 2], stores: bool) {
        let taken: Vec<String> = self.world.results.iter().cloned().collect();
        self.change(|world| world.results.clear());
        if seen[0] {
            self.see();
        }
        self.change(|world| world.tasks.retain(|id| !taken.contains(id)));
        if seen[1] {
            self.see();
        }
        match stores {
            true => self.world.stored.extend(taken),
            // The controller died: the nodes are pending again.
            false => self.change(|world| world.tasks.extend(taken)),
        }
    }
}

fn with_task() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.change(|world| {
        world.tasks.insert("a".into());
    });
    fixture.see();
    fixture
}

#[test]
fn a_task_runs_once_while_the_controller_removes_its_result_and_then_the_task() {
    let mut fixture = with_task();
    fixture.finish("a", NodePhase::Succeeded);
    fixture.write(true);
    fixture.visit([true, true], true);
    assert_eq!(fixture.starts["a"], 1);
}

#[test]
fn a_task_that_comes_back_after_success_is_answered_from_memory() {
    for (phase, starts) in [(NodePhase::Succeeded, 1), (NodePhase::Failed, 2)] {
        let mut fixture = with_task();
        fixture.finish("a", phase);
        fixture.write(true);
        fixture.visit([false, true], false);
        fixture.see();
        assert_eq!(fixture.starts["a"], starts, "{phase:?}");
        fixture.finish("a", phase);
        fixture.write(true);
        assert!(fixture.world.results.contains("a"));
    }
}

#[test]
fn after_the_workflow_has_ended_the_same_task_runs_again() {
    let mut fixture = with_task();
    fixture.finish("a", NodePhase::Succeeded);
    fixture.write(true);
    fixture.visit([true, true], true);
    fixture.change(|world| world.completed = true);
    fixture.see();
    fixture.change(|world| {
        world.completed = false;
        world.tasks.insert("a".into());
    });
    fixture.see();
    assert_eq!(fixture.starts["a"], 2);
}

#[test]
fn a_task_of_another_process_starts_only_after_the_doubt() {
    let mut fixture = Fixture::new();
    fixture.change(|world| world.tasks = BTreeSet::from(["new".into(), "taken".into()]));
    fixture.see_as(Origin::TakenOver);
    assert!(fixture.starts.is_empty());
    fixture.change(|world| {
        world.tasks.remove("taken");
    });
    fixture.wait(DOUBT / 2);
    fixture.see_as(Origin::TakenOver);
    fixture.wait(DOUBT);
    assert_eq!(fixture.starts, BTreeMap::from([("new".to_owned(), 1)]));
}

#[test]
fn a_task_that_leaves_is_cancelled_and_gets_no_result() {
    let mut fixture = with_task();
    fixture.change(|world| world.tasks.clear());
    fixture.see();
    assert!(fixture.running.is_empty(), "cancelled");
    let task = TaskKey::new(&"u".into(), &"a".into());
    fixture.index.finished(&task, report(NodePhase::Succeeded));
    fixture.write(true);
    assert!(fixture.world.results.is_empty());
}

#[test]
fn an_earlier_version_is_ignored() {
    let mut fixture = Fixture::new();
    let earlier = fixture.world.object();
    fixture.change(|world| {
        world.tasks.insert("a".into());
    });
    fixture.see();
    let actions = fixture.index.applied(&earlier, Origin::New, fixture.now);
    assert_eq!(actions, []);
}

/// The watch reports the end of an earlier ownership after the answer to a new claim.
#[test]
fn an_earlier_end_does_not_remove_a_set() {
    let mut fixture = with_task();
    let uid: SetUid = "u".into();
    let earlier = "0".into();
    assert_eq!(fixture.index.removed(&uid, &earlier), []);
    let mut completed = fixture.world.clone();
    completed.version = 0;
    completed.completed = true;
    let completed = completed.object();
    let actions = fixture.index.applied(&completed, Origin::New, fixture.now);
    assert_eq!(actions, []);
    assert!(fixture.running.contains("a"));
    let actions = fixture.index.removed(&uid, &fixture.world.version());
    fixture.take(actions);
    assert!(fixture.running.is_empty());
}

#[test]
fn a_result_of_another_process_ends_the_task() {
    let mut fixture = with_task();
    fixture.change(|world| {
        world.results.insert("a".into());
    });
    fixture.see();
    assert!(fixture.running.is_empty());
    assert_eq!(
        fixture.index.set(&"u".into()).unwrap().unwritten().count(),
        0
    );
}

#[test]
fn a_list_removes_the_sets_that_it_does_not_have() {
    let mut fixture = with_task();
    let listed = |version: &str| Listed {
        version: version.into(),
        ..Listed::default()
    };
    let actions = fixture.index.listed(&listed("0"));
    assert_eq!(actions, [], "the list is older than the claim");
    let actions = fixture.index.listed(&listed("9"));
    fixture.take(actions);
    assert!(fixture.running.is_empty() && fixture.index.set(&"u".into()).is_none());
}

#[test]
fn the_phase_running_is_written_once_and_does_not_hide_the_result() {
    let mut fixture = with_task();
    let uid: SetUid = "u".into();
    let task = TaskKey::new(&uid, &"a".into());
    fixture.index.report_running(&task);
    let unwritten = |fixture: &Fixture| -> Vec<_> {
        let set = fixture.index.set(&"u".into()).unwrap();
        set.unwritten()
            .map(|(node, report)| (node.clone(), report))
            .collect()
    };
    let running = unwritten(&fixture);
    assert!(!running[0].1.has_ended());
    // The step ends while the phase is on its way.
    fixture.finish("a", NodePhase::Succeeded);
    fixture
        .index
        .written(&uid, &running, &"1".into(), fixture.now);
    fixture.index.report_running(&task);
    assert!(unwritten(&fixture)[0].1.has_succeeded());
}

/// The controller is faster than the answer to the write, and then dies before it stores the
/// result.
#[test]
fn a_result_is_written_again_if_the_answer_comes_after_the_controller() {
    let mut fixture = with_task();
    fixture.finish("a", NodePhase::Succeeded);
    let uid: SetUid = "u".into();
    let set = fixture.index.set(&uid).unwrap();
    let reports: Vec<_> = set
        .unwritten()
        .map(|(node, report)| (node.clone(), report))
        .collect();
    fixture.change(|world| {
        world.results.insert("a".into());
    });
    let version = fixture.world.version();
    fixture.change(|world| world.results.clear());
    fixture.see();
    fixture.index.written(&uid, &reports, &version, fixture.now);
    fixture.wait(DOUBT);
    fixture.write(true);
    assert!(fixture.world.results.contains("a"));
    assert_eq!(fixture.starts["a"], 1);
}

/// Random histories: steps of the controller, of the replica, and of the watch, in any order. Each
/// node gets its result, no result is written for a task that has left, and a task that has
/// succeeded does not run again.
#[test]
fn random_histories_lose_no_task_and_run_none_twice() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2000 {
        let mut fixture = Fixture::new();
        let mut added = 0;
        for _ in 0..random.usize(1..60) {
            match random.u8(..12) {
                10 => fixture.wait(DOUBT.mul_f64(random.f64() * 1.5)),
                11 => fixture.list(),
                0 | 1 => {
                    added += 1;
                    fixture.change(|world| {
                        world.tasks.insert(added.to_string());
                    });
                }
                2 | 3 => fixture.see(),
                4 | 5 => {
                    let node = random.choice(&fixture.running).cloned();
                    fixture.finish(&node.unwrap_or_default(), NodePhase::Succeeded);
                }
                6 | 7 => fixture.write(random.bool()),
                _ => fixture.visit([random.bool(), random.bool()], random.u8(..4) > 0),
            }
        }
        // Nothing fails any more: everything ends.
        for _ in 0..8 {
            fixture.see();
            for node in fixture.running.clone() {
                fixture.finish(&node, NodePhase::Succeeded);
            }
            fixture.write(true);
            fixture.visit([true, true], true);
            fixture.wait(DOUBT);
        }
        let all: BTreeSet<String> = (1..=added).map(|number| number.to_string()).collect();
        assert_eq!(fixture.world.stored, all);
        assert!(
            fixture.starts.values().all(|starts| *starts == 1),
            "{:?}",
            fixture.starts
        );
        assert!(fixture.running.is_empty());
    }
}

/// Processes end at random. Each node gets its result, and a task runs again only if a process has
/// ended.
#[test]
fn random_histories_with_restarts_lose_no_task() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..1000 {
        let mut fixture = Fixture::new();
        let mut added = 0;
        let mut restarts = 0;
        for _ in 0..random.usize(1..60) {
            match random.u8(..12) {
                0 | 1 => {
                    added += 1;
                    fixture.change(|world| {
                        world.tasks.insert(added.to_string());
                    });
                }
                2 | 3 => fixture.see_as(Origin::TakenOver),
                4 | 5 => {
                    let node = random.choice(&fixture.running).cloned();
                    fixture.finish(&node.unwrap_or_default(), NodePhase::Succeeded);
                }
                6 | 7 => fixture.write(random.bool()),
                8 => fixture.wait(DOUBT.mul_f64(random.f64() * 1.5)),
                9 => {
                    restarts += 1;
                    fixture.restart();
                }
                _ => fixture.visit([random.bool(), random.bool()], true),
            }
        }
        for _ in 0..8 {
            fixture.see_as(Origin::TakenOver);
            fixture.wait(DOUBT);
            for node in fixture.running.clone() {
                fixture.finish(&node, NodePhase::Succeeded);
            }
            fixture.write(true);
            fixture.visit([true, true], true);
        }
        let all: BTreeSet<String> = (1..=added).map(|number| number.to_string()).collect();
        assert_eq!(fixture.world.stored, all);
        let starts = &fixture.starts;
        assert!(
            starts.values().all(|starts| *starts <= 1 + restarts),
            "{restarts} restarts: {starts:?}"
        );
    }
}
