//! Which failures of a compile worker are remembered for the module.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::Executor;
use wasm_workflow_integration::hostile::bombs;

use super::start;
use super::workers::workers_of;
use crate::{message, template_of};

/// The compiler needs minutes for this module.
fn slow_module(directory: &Path) -> Value {
    let path = directory.join("loops.wasm");
    fs::write(&path, bombs::nested_loops(2000)).unwrap();
    template_of(&path)
}

/// Sends a signal to every compile worker of a step, until the step ends. Returns its node and the
/// number of workers.
async fn node_with_signals(executor: &Executor, template: &Value, signal: &str) -> (Value, usize) {
    let mut sent = Vec::new();
    let node = executor.node(template);
    tokio::pin!(node);
    loop {
        tokio::select! {
            node = &mut node => return (node, sent.len()),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        for id in workers_of(executor) {
            if !sent.contains(&id) {
                let id_text = id.to_string();
                assert!(
                    Command::new("kill")
                        .args([signal, &id_text])
                        .status()
                        .unwrap()
                        .success()
                );
                sent.push(id);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_compiler_with_the_whole_memory_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({"time": "100s"}));
    let template = slow_module(directory.path());
    let (node, workers) = node_with_signals(&executor, &template, "-ABRT").await;
    let expected = "the compiler crashed (signal 6 ended it)";
    assert!(message(&node).contains(expected), "{node}");
    assert_eq!(workers, 2, "the second worker has the whole memory");
    let (node, workers) = node_with_signals(&executor, &template, "-ABRT").await;
    assert!(message(&node).contains(expected), "{node}");
    assert_eq!(workers, 0, "the crash is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_system_killed_is_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({"time": "100s"}));
    let template = slow_module(directory.path());
    for _ in 0..2 {
        let (node, workers) = node_with_signals(&executor, &template, "-KILL").await;
        assert!(message(&node).contains("the system killed it"), "{node}");
        assert_eq!(node["phase"], "Error", "{node}");
        assert_eq!(workers, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_without_processor_time_is_an_error_that_is_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({"time": "2s"}));
    let template = slow_module(directory.path());
    for _ in 0..2 {
        let (node, workers) = node_with_signals(&executor, &template, "-STOP").await;
        assert!(message(&node).contains("this machine is busy"), "{node}");
        assert_eq!(node["phase"], "Error", "{node}");
        assert_eq!(workers, 1);
    }
}
