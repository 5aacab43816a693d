//! A cluster of doubles: the Kubernetes API, Argo's controller, and replicas of the executor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::api::ApiServer;
use super::controller::{Controller, State, Workflow};
use super::merge_patch;
use super::store::{Key, Store};
use crate::executor::{Executor, Options};
use crate::guests;

/// The controller's requeue time.
pub const REQUEUE_TIME: Duration = Duration::from_millis(200);

/// A cluster without executors.
#[derive(Debug)]
pub struct Cluster {
    /// The objects.
    pub store: Store,
    /// The Kubernetes API.
    pub api: ApiServer,
    /// Argo's controller.
    pub controller: Controller,
    directory: TempDir,
    /// The logs of all replicas.
    logs: Mutex<Vec<Arc<Mutex<Vec<String>>>>>,
}

impl Cluster {
    /// Starts the doubles.
    pub async fn start() -> Self {
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

    /// The kubeconfig file of the API.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Starts a replica with this id.
    pub fn replica(&self, id: &str, flags: &[&str]) -> Executor {
        self.start_replica(id, flags, &json!({}))
    }

    /// Starts a replica with these settings of `cluster`.
    pub fn replica_with(&self, id: &str, settings: &Value) -> Executor {
        self.start_replica(id, &[], &json!({"cluster": settings}))
    }

    /// Starts a replica with these keys in its configuration.
    pub fn start_replica(&self, id: &str, flags: &[&str], config: &Value) -> Executor {
        self.start_replica_of(&self.kubeconfig(), id, flags, config)
    }

    /// Starts a replica with these settings of `cluster`. It has an API server of its own, for the
    /// same objects.
    pub async fn replica_with_api(&self, id: &str, settings: &Value) -> (Executor, ApiServer) {
        let api = ApiServer::start(self.store.clone()).await;
        let kubeconfig = self.directory.path().join(id);
        std::fs::write(&kubeconfig, api.kubeconfig()).unwrap();
        let config = json!({"cluster": settings});
        let replica = self.start_replica_of(&kubeconfig, id, &[], &config);
        (replica, api)
    }

    fn start_replica_of(
        &self,
        kubeconfig: &Path,
        id: &str,
        flags: &[&str],
        config: &Value,
    ) -> Executor {
        let kubeconfig = kubeconfig.display().to_string();
        let own = ["--cluster", "--replica", id, "--kubeconfig", &kubeconfig];
        let flags = own.iter().chain(flags).map(|flag| (*flag).to_owned());
        let mut all = json!({
            "sources": {"fileRoot": guests::directory()},
            "cluster": {"requeueTime": "200ms", "drainTime": "20s"},
        });
        merge_patch::apply(&mut all, config);
        let executor = Executor::start_with(Options {
            config: Some(all.to_string()),
            flags: flags.collect(),
            ..Options::default()
        });
        self.logs.lock().unwrap().push(executor.log_lines());
        executor
    }

    /// The last lines of all logs about a workflow.
    pub fn log(&self, workflow: &str) -> String {
        let logs = self.logs.lock().unwrap();
        let lines = logs.iter().flat_map(|log| log.lock().unwrap().clone());
        let lines: Vec<String> = lines.filter(|line| line.contains(workflow)).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Number of replicas with a Lease.
    pub fn leases(&self) -> usize {
        self.store.list("leases").0.len()
    }

    /// Deletes the Lease of a replica.
    pub fn delete_lease(&self, replica: &str) {
        let name = format!("wasm-workflow-executor-{replica}");
        self.store
            .delete(&("leases".into(), "executors".into(), name));
    }

    /// Submits a workflow in the namespace `team`. Each round has nodes, by id, with templates.
    pub fn submit(&self, name: &str, rounds: Vec<BTreeMap<String, Value>>) {
        self.submit_in("team", name, rounds);
    }

    /// Submits a workflow.
    pub fn submit_in(&self, namespace: &str, name: &str, rounds: Vec<BTreeMap<String, Value>>) {
        self.controller.submit(Workflow {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            rounds,
        });
    }

    /// The replica that owns a task set.
    pub fn owner(&self, name: &str) -> Option<String> {
        let set = self.store.get(&task_set(name))?;
        let owner = &set["metadata"]["labels"]["wasm-workflow-executor/replica"];
        owner.as_str().map(str::to_owned)
    }

    /// Waits until a workflow has ended, and returns its state.
    pub async fn ended(&self, name: &str) -> State {
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

/// The key of a task set in the namespace `team`.
pub fn task_set(name: &str) -> Key {
    ("workflowtasksets".into(), "team".into(), name.into())
}

/// One round: `count` nodes of this template.
pub fn round(name: &str, count: usize, template: &Value) -> BTreeMap<String, Value> {
    (0..count)
        .map(|number| (format!("{name}-{number}"), template.clone()))
        .collect()
}
