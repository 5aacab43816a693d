//! Memory of the host that a guest makes it use. It belongs to the guest's limit, and is returned
//! to the system when the step ends.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::hostile::components;
use wasm_workflow_integration::hostile::outcomes::{
    EMPTY_PARAMETERS, LONG_ERROR, LONG_RESULT, OVERLAPPING_PARAMETERS,
};

use crate::{message, start_in_container, template_of, template_of_wat};

fn limited(mut template: Value, memory: &str) -> Value {
    template["plugin"]["wasm"]["limits"] = json!({"memory": memory, "time": "30s"});
    template
}

#[tokio::test]
async fn a_returned_value_is_bounded_before_the_host_copies_it() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    for (name, body) in [
        ("overlapping-parameters", OVERLAPPING_PARAMETERS),
        ("empty-parameters", EMPTY_PARAMETERS),
        ("long-result", LONG_RESULT),
        ("long-error", LONG_ERROR),
    ] {
        let template = template_of_wat(directory.path(), name, &components::step(500, body));
        let node = executor.node(&limited(template, "32Mi")).await;
        assert_eq!(node["phase"], "Failed", "{name}: {node}");
        assert!(
            message(&node).contains("it passed more than 1048576 bytes to the host at once"),
            "{name}: {node}"
        );
    }
}

#[tokio::test]
async fn an_outcome_within_the_limits_is_returned() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    let body =
        "(i32.store (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const 65536))
        (i32.store (i32.const 40) (i32.const 60000))";
    let template = template_of_wat(directory.path(), "result", &components::step(40, body));
    let node = executor.node(&limited(template, "32Mi")).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let result = node["outputs"]["result"].as_str().unwrap_or_default();
    assert_eq!(result.len(), 60_000);
}

#[tokio::test]
async fn tables_are_memory_of_the_step() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    let many = "(table 100000 funcref)".repeat(99);
    let cases = [
        (
            "many-tables",
            format!(r#"(module (memory 1) {many} (func (export "_start")))"#),
        ),
        (
            "one-table",
            r#"(module (memory 1) (table 6000000 funcref) (func (export "_start")))"#.to_owned(),
        ),
        (
            "growing-table",
            r#"(module (memory 1) (table $t 30000 externref) (func (export "_start")
                (drop (table.grow $t (ref.null extern) (i32.const 6000000)))))"#
                .to_owned(),
        ),
        (
            "table-beside-a-memory",
            r#"(module (memory 500) (table 100000 funcref) (func (export "_start")))"#.to_owned(),
        ),
    ];
    for (name, wat) in cases {
        let template = template_of_wat(directory.path(), name, &wat);
        let node = executor.node(&limited(template, "32Mi")).await;
        // If the metadata alone is too large, the module does not start.
        if !message(&node).contains("the metadata of the module needs") {
            assert_eq!(node["outputs"]["exitCode"], "137", "{name}: {node}");
        }
        assert!(
            message(&node).starts_with("memory limit of 32Mi exceeded"),
            "{name}: {node}"
        );
    }
    let small = r#"(module (memory 400) (table 100000 funcref) (func (export "_start")))"#;
    let template = template_of_wat(directory.path(), "small-table", small);
    let node = executor.node(&limited(template, "32Mi")).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
}

/// A component that instantiates the core module of the text `fields` `instances` times.
fn instantiated(instances: usize, fields: &str) -> String {
    let instances = "(core instance (instantiate $many))".repeat(instances);
    let component = format!("(core module $many {fields}) {instances}");
    let command = components::Command {
        version: "0.2.0",
        component: &component,
        ..components::Command::default()
    };
    command.text()
}

/// Everything that wasmtime allocates for an instance is memory of the step: 999 instances of the
/// first module would need 3 GiB.
#[tokio::test]
async fn instances_are_memory_of_the_step() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    let globals = "(global i64 (i64.const 1))".repeat(200_000);
    let indices: Vec<String> = (0..20_000).map(|index| format!("{index} ")).collect();
    let functions = format!(
        "(func $f) {} (elem declare func {})",
        "(func)".repeat(20_000),
        indices.concat()
    );
    let elements = format!("(elem funcref {})", "(ref.null func)".repeat(100_000));
    let cases = [
        ("globals", instantiated(990, &globals)),
        ("functions", instantiated(60, &functions)),
        ("passive-elements", instantiated(60, &elements)),
        (
            "one-instance",
            format!(r#"(module (memory 500) {globals} (func (export "_start")))"#),
        ),
    ];
    for (name, wat) in cases {
        let template = template_of_wat(directory.path(), name, &wat);
        let node = executor.node(&limited(template, "32Mi")).await;
        assert_eq!(node["phase"], "Failed", "{name}: {node}");
        // If the metadata alone is too large, the module does not start.
        if !message(&node).contains("the metadata of the module needs") {
            assert_eq!(node["outputs"]["exitCode"], "137", "{name}: {node}");
        }
        assert!(
            message(&node).starts_with("memory limit of 32Mi exceeded"),
            "{name}: {node}"
        );
    }
    let template = template_of_wat(directory.path(), "few", &instantiated(4, &globals));
    // The metadata of the module needs at most 53 MiB.
    let node = executor.node(&limited(template, "96Mi")).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
}

#[tokio::test]
async fn the_handles_of_a_step_are_limited_by_its_memory() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    for (name, wat) in [
        ("resources", components::resources(100_000)),
        ("sleeps", components::sleeps(100_000)),
        ("streams", components::streams(100_000)),
    ] {
        let template = template_of_wat(directory.path(), name, &wat);
        let node = executor.node(&limited(template, "32Mi")).await;
        assert_eq!(node["phase"], "Failed", "{name}: {node}");
        assert!(
            message(&node).contains("it has more than 1024 handles"),
            "{name}: {node}"
        );
    }
    let template = template_of_wat(
        directory.path(),
        "few-resources",
        &components::resources(1000),
    );
    let node = executor.node(&limited(template, "32Mi")).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
}

#[tokio::test]
async fn the_stacks_of_calls_that_wait_are_memory_of_the_step() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    let run = async |count: usize, memory| {
        let name = format!("waiting-{count}");
        let guest = components::waiting_calls(count);
        let template = template_of_wat(directory.path(), &name, &guest);
        executor.node(&limited(template, memory)).await
    };
    let node = run(8, "64Mi").await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let node = run(70, "64Mi").await;
    assert!(
        message(&node).starts_with("memory limit of 64Mi exceeded"),
        "{node}"
    );
    let node = run(300, "512Mi").await;
    assert!(
        message(&node).contains("it has more than 200 calls that wait at the same time"),
        "{node}"
    );
    let before = executor.resident_kilobytes();
    for _ in 0..3 {
        let node = run(190, "512Mi").await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
    }
    let after = resident_when_idle(&executor).await;
    assert!(
        after < before + (32 << 10),
        "{before} KiB before, {after} KiB after"
    );
}

/// The host calls the module to allocate memory for a result, when the module's stack is almost
/// used up. The allocation needs a stack without end.
#[tokio::test]
async fn a_stack_that_is_used_up_inside_a_host_call_ends_only_the_step() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    // One of these depths leaves less stack than the host's functions need.
    for depth in (20_000..=40_000).step_by(400) {
        let name = format!("deep-{depth}");
        let guest = components::deep_allocation(depth);
        let template = template_of_wat(directory.path(), &name, &guest);
        let node = executor.node(&limited(template, "64Mi")).await;
        assert!(
            message(&node).contains("call stack exhausted: its limit is 1Mi"),
            "{depth}: {node}"
        );
    }
}

#[tokio::test]
async fn the_open_lists_of_directories_are_limited() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    let run = async |name: &str, count, after| {
        let guest = components::directory_lists(count, after);
        let template = template_of_wat(directory.path(), name, &guest);
        executor.node(&limited(template, "64Mi")).await
    };
    let node = run("too-many", 17, "").await;
    assert_eq!(node["phase"], "Failed", "{node}");
    assert!(
        message(&node).contains("it has more than 16 open lists of a directory"),
        "{node}"
    );
    let node = run("sixteen", 16, "").await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let node = run("dropped", 500, "(call $drop (local.get $b))").await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
}

/// Kilobytes that the process uses ten seconds after its last step.
async fn resident_when_idle(executor: &Executor) -> u64 {
    tokio::time::sleep(Duration::from_secs(10)).await;
    executor.resident_kilobytes()
}

#[tokio::test]
async fn memory_that_guests_made_the_host_use_is_returned_to_the_system() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    let guests = [
        ("overlapping", components::step(500, OVERLAPPING_PARAMETERS)),
        ("sleeps", components::sleeps(100_000)),
        ("streams", components::streams(100_000)),
        ("random", components::random("0.2.0", 1 << 20, 20)),
    ];
    let templates = guests.map(|(name, wat)| {
        let template = template_of_wat(directory.path(), name, &wat);
        limited(template, "512Mi")
    });
    for template in &templates {
        executor.node(template).await;
    }
    let before = resident_when_idle(&executor).await;
    for template in &templates {
        let steps = (0..28).map(|_| executor.node(template));
        futures::future::join_all(steps).await;
    }
    let after = resident_when_idle(&executor).await;
    assert!(
        after < before + (64 << 10),
        "{before} kB before the attacks, {after} kB after them"
    );
}

/// The loaded metadata of a module needs about 34 MiB for 20,000 types.
#[tokio::test]
async fn the_metadata_of_large_modules_has_a_limit() {
    metadata_has_a_limit(8, 20_000).await;
}

#[tokio::test]
async fn the_metadata_of_many_modules_has_a_limit() {
    metadata_has_a_limit(100, 600).await;
}

/// A module with this many types, which no module with another number has.
fn module_with_types(directory: &Path, module: usize, types: usize) -> Value {
    let types: Vec<String> = (0..types)
        .map(|number| function_type(types * module + number))
        .collect();
    let text = format!(
        r#"(module {} (memory (export "memory") 1)
            (func (export "_start") (drop (i32.const {module}))))"#,
        types.concat()
    );
    template_of_wat(directory, &format!("types-{module}"), &text)
}

/// Number of steps that wait for a slot. Their modules would need 200 MiB.
const WAITING: usize = 6;

/// Steps that wait for a slot do not keep their modules in memory.
#[tokio::test]
async fn the_metadata_of_modules_whose_steps_wait_has_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "sources": {"fileRoot": directory.path()},
        "capacity": {"steps": 1, "memory": "256Mi", "compileMemory": "512Mi"},
    });
    std::fs::copy(guest("sleep"), directory.path().join("sleep.wasm")).unwrap();
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::in_container()
    });
    let mut blocks = template_of(&directory.path().join("sleep.wasm"));
    blocks["plugin"]["wasm"]["limits"] = json!({"time": "40s"});
    let blocks = async { executor.node(&blocks).await };
    let waiting = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = executor.anonymous_kilobytes();
        let templates: Vec<_> = (0..WAITING)
            .map(|module| module_with_types(directory.path(), module, 20_000))
            .collect();
        let steps = templates.iter().map(|template| executor.node(template));
        let steps = futures::future::join_all(steps);
        let measured = async {
            let compiled = || executor.log().matches(": compiled module=").count();
            while compiled() <= WAITING {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            // jemalloc returns unused memory within about two seconds (`src/allocator.rs`).
            tokio::time::sleep(Duration::from_secs(5)).await;
            executor.anonymous_kilobytes()
        };
        let (nodes, waiting) = tokio::join!(steps, measured);
        assert!(
            nodes.iter().all(|node| node["phase"] == "Succeeded"),
            "{nodes:?}"
        );
        assert!(
            waiting < before + (96 << 10),
            "{before} KiB before, {waiting} KiB while the steps wait"
        );
    };
    tokio::join!(blocks, waiting);
}

/// Compiles modules with this many types, and then looks at the memory of the executor.
async fn metadata_has_a_limit(modules: usize, types: usize) {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in_container(directory.path());
    let before = executor.anonymous_kilobytes();
    for module in 0..modules {
        let template = module_with_types(directory.path(), module, types);
        let node = executor.node(&template).await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = executor.anonymous_kilobytes();
    assert!(
        after < before + (64 << 10),
        "{before} KiB before, {after} KiB after"
    );
}

/// A type that no other number has.
fn function_type(number: usize) -> String {
    let parameters: Vec<&str> = (0..18)
        .map(|bit| match number >> bit & 1 {
            0 => "i32 ",
            _ => "i64 ",
        })
        .collect();
    format!("(type (func (param {})))", parameters.concat())
}
