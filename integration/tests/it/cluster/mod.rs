//! `serve --cluster` with a double of the Kubernetes API and of Argo's controller.

mod chaos;
mod faults;
mod http_templates;
mod namespaces;
mod replicas;
mod stand_aside;
mod tenants;
mod workflows;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasm_workflow_integration::cluster::double::{Cluster, REQUEUE_TIME, round, task_set};
use wasm_workflow_integration::executor::{Executor, template};

/// The phase and the message of the only node of a workflow.
async fn ended_node(cluster: &Cluster, workflow: &str) -> (String, String) {
    let state = cluster.ended(workflow).await;
    let node = state.ended.values().next().unwrap();
    let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
    (text("phase"), text("message"))
}

/// Sends a signal to a process.
fn signal(executor: &Executor, signal: &str) {
    let id = executor.id().to_string();
    let sent = std::process::Command::new("kill")
        .args([signal, &id])
        .status();
    assert!(sent.unwrap().success());
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
