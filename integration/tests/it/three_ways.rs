//! The three kinds of modules: plain commands, the `/work` contract, and components of the step
//! world.

use serde_json::json;
use wasm_workflow_integration::executor::{Executor, template};

use crate::{message, start_in, template_of_wat, wait_until_no_step_directory_is_left};

#[tokio::test]
async fn a_plain_command_gets_arguments_and_files() {
    let executor = Executor::start();
    std::fs::create_dir_all(executor.directory().join("artifacts/in")).unwrap();
    std::fs::write(
        executor.directory().join("artifacts/in/text"),
        "one two\nthree\n",
    )
    .unwrap();
    let mut template = template("word-count");
    template["inputs"] = json!({"artifacts": [
        {"name": "text", "path": "/in/text.txt", "s3": {"key": "in/text"}, "archive": {"none": {}}},
    ]});
    template["outputs"] = json!({
        "parameters": [{"name": "words", "valueFrom": {"path": "/out/words"}, "globalName": "total"}],
        "artifacts": [
            {"name": "copy", "path": "/out/copy.txt", "archive": {"none": {}}, "globalName": "kept"},
            {"name": "fixed", "path": "/in/text.txt", "archive": {"none": {}}, "s3": {"key": "fixed/key"}},
        ],
    });
    template["plugin"]["wasm"]["args"] = json!(["/in/text.txt", "/out/copy.txt", "/out/words"]);
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert_eq!(
        node["outputs"]["parameters"],
        json!([{"name": "words", "value": "3", "globalName": "total"}])
    );
    assert_eq!(
        (&node["outputs"]["result"], &node["outputs"]["exitCode"]),
        (&json!("3"), &json!("0"))
    );
    let copy = &node["outputs"]["artifacts"][0];
    let key = copy["s3"]["key"].as_str().unwrap();
    assert!(
        key.starts_with("wf/wf-word-count-") && key.ends_with("/copy.txt"),
        "{key}"
    );
    assert_eq!(
        (&copy["path"], &copy["globalName"], &copy["archive"]),
        (
            &json!("/out/copy.txt"),
            &json!("kept"),
            &json!({"none": {}})
        )
    );
    assert_eq!(
        std::fs::read_to_string(executor.directory().join("artifacts").join(key)).unwrap(),
        "one two\nthree\n"
    );
    assert!(
        executor.directory().join("artifacts/fixed/key").is_file(),
        "an explicit key is used as it is"
    );
    wait_until_no_step_directory_is_left(&executor).await;
}

#[tokio::test]
async fn the_work_contract_returns_message_and_result() {
    let executor = Executor::start();
    let mut template = template("ferris-says");
    template["inputs"] = json!({"parameters": [{"name": "text", "value": "Hello"}]});
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(
        message(&node).starts_with("Ferris says: Hello (module sha256:"),
        "{node}"
    );
    assert!(
        node["outputs"]["result"]
            .as_str()
            .unwrap()
            .contains("< Hello >")
    );
    template["inputs"] = json!({});
    let node = executor.node(&template).await;
    assert_eq!(
        (&node["phase"], &node["outputs"]["exitCode"]),
        (&json!("Failed"), &json!("0"))
    );
    assert!(
        message(&node).starts_with("the parameter `text` is missing"),
        "{node}"
    );
}

#[tokio::test]
async fn the_step_world_returns_values() {
    let executor = Executor::start();
    let mut template = template("greeting");
    template["inputs"] = json!({"parameters": [{"name": "name", "value": "Ada"}]});
    template["outputs"] =
        json!({"parameters": [{"name": "greeting", "valueFrom": {"supplied": {}}}]});
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(message(&node).starts_with("greeted Ada for wf"), "{node}");
    assert_eq!(node["outputs"]["result"], "Hello, Ada!");
    assert_eq!(
        node["outputs"]["parameters"],
        json!([{"name": "greeting", "value": "Hello, Ada!"}])
    );
    template["inputs"] = json!({});
    template["outputs"] = json!({});
    let node = executor.node(&template).await;
    assert_eq!(
        (&node["phase"], &node["outputs"]["exitCode"]),
        (&json!("Failed"), &json!("1"))
    );
    assert!(
        message(&node).starts_with("the parameter `name` is missing"),
        "{node}"
    );
}

#[tokio::test]
async fn a_component_command_runs() {
    let node = Executor::start().node(&template("noop-command")).await;
    assert_eq!(
        (&node["phase"], &node["outputs"]["exitCode"]),
        (&json!("Succeeded"), &json!("0")),
        "{node}"
    );
}

/// A hand-written component of WASI 0.3, where `run` is an async function.
#[tokio::test]
async fn a_wasi_0_3_command_runs() {
    let directory = tempfile::tempdir().unwrap();
    let template = template_of_wat(
        directory.path(),
        "p3",
        r#"(component
            (core module $m
                (import "" "task.return" (func $return (param i32)))
                (func (export "run") (result i32) (call $return (i32.const 0)) (i32.const 0))
                (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
            (core func $return (canon task.return (result (result))))
            (core instance $i (instantiate $m (with "" (instance (export "task.return" (func $return))))))
            (func $run async (result (result))
                (canon lift (core func $i "run") async (callback (core func $i "callback"))))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.3.0" (instance $exported)))"#,
    );
    let node = start_in(directory.path()).node(&template).await;
    assert_eq!(
        (&node["phase"], &node["outputs"]["exitCode"]),
        (&json!("Succeeded"), &json!("0")),
        "{node}"
    );
}

#[tokio::test]
async fn modules_get_environment_arguments_and_standard_input() {
    let executor = Executor::start();
    let mut template = template("show");
    template["plugin"]["wasm"]["args"] = json!(["a b", ""]);
    template["plugin"]["wasm"]["env"] =
        json!([{"name": "X", "value": 1}, {"name": "HOME", "value": "/elsewhere"}]);
    template["plugin"]["wasm"]["stdin"] = json!("from stdin");
    let node = executor.node(&template).await;
    let shown = node["outputs"]["result"].as_str().unwrap();
    let expected = "args show.wasm|a b||\nenv HOME=/elsewhere\nenv PWD=/\nenv TMPDIR=/tmp\nenv X=1\nstdin from stdin\ndir /tmp\ndir /work";
    assert_eq!(shown, expected, "{node}");
}

#[tokio::test]
async fn a_module_without_files_gets_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let template = template_of_wat(
        directory.path(),
        "bare",
        r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
    );
    let executor = start_in(directory.path());
    assert_eq!(executor.node(&template).await["phase"], "Succeeded");
    let scratch = executor.directory().join("scratch");
    std::fs::remove_dir_all(&scratch).unwrap();
    assert_eq!(executor.node(&template).await["phase"], "Succeeded");
    assert!(
        !scratch.exists(),
        "the scratch directory was not created again"
    );
}

/// The pooling allocator refuses these modules. They run with memory from the heap.
#[tokio::test]
async fn modules_that_exceed_the_pool_run_on_the_heap() {
    let directory = tempfile::tempdir().unwrap();
    let modules = [
        (
            "two-tables",
            r#"(module (table 10 funcref) (table 10 externref) (memory (export "memory") 1) (func (export "_start")))"#,
        ),
        (
            "large-table",
            r#"(module (table 30000 funcref) (memory (export "memory") 1) (func (export "_start")))"#,
        ),
        (
            "two-memories",
            r#"(module (memory (export "memory") 1) (memory 1) (func (export "_start")))"#,
        ),
    ];
    let executor = start_in(directory.path());
    for (name, wat) in modules {
        let node = executor
            .node(&template_of_wat(directory.path(), name, wat))
            .await;
        assert_eq!(node["phase"], "Succeeded", "{name}: {node}");
    }
    assert_eq!(
        executor.log().matches("pooled=false").count(),
        3,
        "{}",
        executor.log()
    );
}

/// A step in JavaScript with its engine. It has dozens of core instances, and exceeds a slot of the
/// pooling allocator.
#[tokio::test]
async fn a_large_javascript_component_runs() {
    let module = wasm_workflow_integration::guests::program("js-step.wasm");
    let executor = start_in(module.parent().unwrap());
    let mut template = crate::template_of(&module);
    template["inputs"] = json!({"parameters": [{"name": "name", "value": "Ada"}]});
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert_eq!(node["outputs"]["result"], "Hello from JavaScript, Ada!");
}
