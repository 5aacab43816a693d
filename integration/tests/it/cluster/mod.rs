//! `serve --cluster` with a double of the Kubernetes API and of Argo's controller.

mod chaos;
mod faults;
mod http_templates;
mod replicas;
mod stand_aside;
mod tenants;
mod workflows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use wasm_workflow_integration::cluster::api::ApiServer;
use wasm_workflow_integration::cluster::controller::{Controller, State, Workflow};
use wasm_workflow_integration::cluster::store::{Key, Store};
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::guests;

/// The controller's requeue time in these tests.
const REQUEUE_TIME: Duration = Duration::from_millis(200);

/// A cluster without executors.
struct Cluster {
    store: Store,
    api: ApiServer,
    controller: Controller,
    directory: TempDir,
    /// The logs of all replicas.
    logs: Mutex<Vec<Arc<Mutex<Vec<String>>>>>,
}

impl Cluster {
    async fn start() -> Self {
        let store = Store::default();
        let api = ApiServer::start(store.clone()).await;
        let controller = Controller::start(store.clone(), REQUEUE_TIME);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kubeconfig"), api.kubeconfig()).unwrap();
        Self {
            store,
            api,
            controller,
            directory,
            logs: Mutex::default(),
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Starts a replica with this id.
    fn replica(&self, id: &str, flags: &[&str]) -> Executor {
        self.start_replica(id, flags, &json!({}))
    }

    /// Starts a replica with these settings of `cluster`.
    fn replica_with(&self, id: &str, settings: &Value) -> Executor {
        self.start_replica(id, &[], settings)
    }

    fn start_replica(&self, id: &str, flags: &[&str], settings: &Value) -> Executor {
        let kubeconfig = self.kubeconfig().display().to_string();
        let own = ["--cluster", "--replica", id, "--kubeconfig", &kubeconfig];
        let flags = own.iter().chain(flags).map(|flag| (*flag).to_owned());
        let mut cluster = json!({"requeueTime": "200ms", "drainTime": "20s"});
        let settings = settings.as_object().unwrap().clone();
        cluster.as_object_mut().unwrap().extend(settings);
        let config = json!({"sources": {"fileRoot": guests::directory()}, "cluster": cluster});
        let executor = Executor::start_with(Options {
            config: Some(config.to_string()),
            flags: flags.collect(),
            ..Options::default()
        });
        self.logs.lock().unwrap().push(executor.log_lines());
        executor
    }

    /// The last lines of all logs about a workflow.
    fn log(&self, workflow: &str) -> String {
        let logs = self.logs.lock().unwrap();
        let lines = logs.iter().flat_map(|log| log.lock().unwrap().clone());
        let lines: Vec<String> = lines.filter(|line| line.contains(workflow)).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Number of replicas with a Lease.
    fn leases(&self) -> usize {
        self.store.list("leases").0.len()
    }

    fn delete_lease(&self, replica: &str) {
        let name = format!("wasm-workflow-executor-{replica}");
        self.store
            .delete(&("leases".into(), "executors".into(), name));
    }

    fn submit(&self, name: &str, rounds: Vec<BTreeMap<String, Value>>) {
        self.submit_in("team", name, rounds);
    }

    fn submit_in(&self, namespace: &str, name: &str, rounds: Vec<BTreeMap<String, Value>>) {
        self.controller.submit(Workflow {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            rounds,
        });
    }

    /// The replica that owns a task set.
    fn owner(&self, name: &str) -> Option<String> {
        let set = self.store.get(&task_set(name))?;
        let owner = &set["metadata"]["labels"]["wasm-workflow-executor/replica"];
        owner.as_str().map(str::to_owned)
    }

    /// Waits until a workflow has ended, and returns its state.
    async fn ended(&self, name: &str) -> State {
        let started = Instant::now();
        loop {
            let state = self.controller.state(name);
            if state.has_ended {
                return state;
            }
            assert!(
                started.elapsed() < Duration::from_secs(150),
                "{name} has not ended: {state:?} {:?}\n{}",
                self.store.get(&task_set(name)),
                self.log(name)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn task_set(name: &str) -> Key {
    ("workflowtasksets".into(), "team".into(), name.into())
}

/// One round: `count` nodes of this template.
fn round(name: &str, count: usize, template: &Value) -> BTreeMap<String, Value> {
    (0..count)
        .map(|number| (format!("{name}-{number}"), template.clone()))
        .collect()
}

/// Number of times that the step of a node has ended.
fn runs(executor: &Executor, node: &str) -> usize {
    let log = executor.log();
    let is_end =
        |line: &&str| line.contains("pipeline: step ") && line.contains(&format!("/{node} "));
    log.lines().filter(is_end).count()
}

/// A step that sleeps until its time limit ends it.
fn ends_after(limit: &str) -> Value {
    let mut template = template("sleep");
    template["plugin"]["wasm"]["limits"] = json!({"time": limit});
    template
}

fn noop() -> Value {
    template("noop-command")
}
