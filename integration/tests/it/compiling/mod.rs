//! Modules are compiled in worker processes with limits, and beside other modules.

mod neighbours;
mod remembered;
mod workers;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::hostile::bombs::{self, Bomb};

use crate::{message, template_of, template_of_wat};
use workers::workers_of;

/// Memory that the executor may have in addition, after a module was not compiled.
const KEPT_KILOBYTES: u64 = 64 << 10;
/// Longest time until the memory of an attack is returned to the system.
const RETURNED_AFTER: Duration = Duration::from_secs(10);

fn start(directory: &Path, compile: &Value) -> Executor {
    let config = json!({
        "sources": {"fileRoot": directory},
        "capacity": {"compileMemory": "512Mi"},
        "limits": {"compile": compile},
    });
    Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::in_container()
    })
}

fn write(directory: &Path, bomb: &Bomb) -> Value {
    let path = directory.join(format!("{}.wasm", bomb.name));
    std::fs::write(&path, &bomb.bytes).unwrap();
    template_of(&path)
}

/// A module that no other step has compiled.
fn fresh(directory: &Path, number: usize) -> Value {
    let wat = format!(
        r#"(module (memory (export "memory") 1)
             (func (export "_start") (drop (i32.const {number}))))"#
    );
    template_of_wat(directory, &format!("fresh-{number}"), &wat)
}

async fn check(executor: &Executor, bomb: &Bomb, directory: &Path, expected: &str) {
    let template = write(directory, bomb);
    let name = bomb.name;
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Failed", "{name}: {node}");
    assert!(message(&node).contains(expected), "{name}: {node}");
    assert!(workers_of(executor).is_empty(), "{name}");

    let started = Instant::now();
    let again = executor.node(&template).await;
    assert!(message(&again).contains(expected), "{name}: {again}");
    let remembered = "the executor remembers this error";
    assert!(message(&again).contains(remembered), "{name}: {again}");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{name}: the failure is remembered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_needs_too_much_memory_to_compile_fails_and_other_modules_compile_beside_it()
{
    let directory = tempfile::tempdir().unwrap();
    let limits = json!({"time": "100s", "memory": "256Mi"});
    let executor = start(directory.path(), &limits);
    executor.node(&fresh(directory.path(), 0)).await;
    let idle = executor.resident_kilobytes();
    let expected = "cannot be compiled within 1m40s and 256Mi (`limits.compile`): the compiler reached the \
                    memory limit";
    for (number, bomb) in bombs::of_memory().iter().enumerate() {
        let beside = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            executor.node(&fresh(directory.path(), number + 1)).await
        };
        let ((), other) = tokio::join!(check(&executor, bomb, directory.path(), expected), beside);
        assert_eq!(other["phase"], "Succeeded", "beside {}: {other}", bomb.name);
    }
    let kept = || executor.resident_kilobytes().saturating_sub(idle);
    let ended = Instant::now();
    while kept() >= KEPT_KILOBYTES && ended.elapsed() < RETURNED_AFTER {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let kept = kept();
    assert!(kept < KEPT_KILOBYTES, "{kept} KiB are kept");
    assert_eq!(executor.probe("/healthz").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_compiles_too_long_fails_and_delays_no_other_module() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({"time": "3s", "memory": "384Mi"}));
    let expected = "cannot be compiled within 3s and 384Mi (`limits.compile`): the compiler reached the time \
                    limit";
    for (number, bomb) in bombs::of_time().iter().enumerate() {
        let bomb_ends = check(&executor, bomb, directory.path(), expected);
        tokio::pin!(bomb_ends);
        let beside = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            executor.node(&fresh(directory.path(), number)).await
        };
        let other = tokio::select! {
            () = &mut bomb_ends => panic!("{} delayed another module", bomb.name),
            other = beside => other,
        };
        assert_eq!(other["phase"], "Succeeded", "beside {}: {other}", bomb.name);
        bomb_ends.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_of_a_step_ends_its_compilation_unless_another_step_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({"time": "100s"}));
    let path = directory.path().join("loops.wasm");
    std::fs::write(&path, bombs::nested_loops(2000)).unwrap();
    let step = |timeout: &str| {
        let mut template = template_of(&path);
        template["timeout"] = json!(timeout);
        template
    };
    let short = step("2s");
    let long = step("4s");
    let short = async {
        let node = executor.node(&short).await;
        assert!(
            message(&node).contains("timeout of 2s exceeded during compile"),
            "{node}"
        );
        assert_eq!(workers_of(&executor).len(), 1, "the other step still waits");
    };
    let long = async {
        let node = executor.node(&long).await;
        assert!(
            message(&node).contains("timeout of 4s exceeded during compile"),
            "{node}"
        );
    };
    tokio::join!(short, long);
    let ended = async || workers_of(&executor).is_empty();
    wasm_workflow_integration::eventually("the end of the compile worker", ended).await;
}

#[tokio::test]
async fn a_template_lowers_the_limits_of_the_compiler_and_other_templates_keep_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({}));
    let path = directory.path().join("loops.wasm");
    std::fs::write(&path, bombs::nested_loops(150)).unwrap();
    let mut low = template_of(&path);
    low["plugin"]["wasm"]["limits"] = json!({"compile": {"time": "100ms"}});
    let node = executor.node(&low).await;
    // On a busy machine, the message names only the time limit.
    assert!(message(&node).contains("within 100ms"), "{node}");
    let node = executor.node(&template_of(&path)).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let node = executor.node(&low).await;
    assert_eq!(node["phase"], "Succeeded", "the module is compiled: {node}");
    low["plugin"]["wasm"]["limits"] = json!({"compile": {"time": "99ms"}});
    let node = executor.node(&low).await;
    assert!(
        message(&node).contains("limits.compile.time`: must be at least 100ms"),
        "{node}"
    );
}
