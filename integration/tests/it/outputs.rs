//! The sources of output parameters and output artifacts.

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, template};

use crate::message;

/// Runs a module that returns `result`, with these declared output parameters. Returns the node.
async fn outputs(executor: &Executor, parameters: Value, result: &Value) -> Value {
    let mut template = template("malformed-result");
    template["outputs"] = json!({"parameters": parameters});
    template["plugin"]["wasm"]["args"] = json!([result.to_string()]);
    executor.node(&template).await
}

#[tokio::test]
async fn output_parameters_come_from_result_file_declared_file_or_default() {
    let executor = Executor::start();
    let result = json!({"phase": "Succeeded", "outputs": {"parameters": [
        {"name": "text", "value": "t"}, {"name": "number", "value": 5}, {"name": "object", "value": {"a": [1]}},
    ]}});
    let declared = json!([
        {"name": "text", "valueFrom": {"path": "/out/none", "default": "d"}},
        {"name": "constant", "value": "c"},
        {"name": "defaulted", "valueFrom": {"path": "/out/none", "default": 7}},
        {"name": "object", "valueFrom": {"supplied": {}}},
    ]);
    let node = outputs(&executor, declared, &result).await;
    let expected = json!([
        {"name": "text", "value": "t"},
        {"name": "constant", "value": "c"},
        {"name": "defaulted", "value": "7"},
        {"name": "object", "value": "{\"a\":[1]}"},
        {"name": "number", "value": "5"},
    ]);
    assert_eq!(node["outputs"]["parameters"], expected, "{node}");
    let node = outputs(
        &executor,
        json!([{"name": "gone", "valueFrom": {"path": "/out/gone"}}]),
        &result,
    )
    .await;
    assert_eq!(node["phase"], "Failed");
    assert!(
        message(&node).starts_with(
            "output parameter `gone` is missing: the module must return it or write it to /out/gone"
        ),
        "{node}"
    );
}

#[tokio::test]
async fn large_parameters_are_refused_and_long_messages_are_truncated() {
    let executor = Executor::start();
    let large =
        json!({"outputs": {"parameters": [{"name": "large", "value": "x".repeat(300_000)}]}});
    let node = outputs(&executor, json!([]), &large).await;
    assert_eq!(node["phase"], "Failed");
    assert!(
        message(&node).contains("`large` is larger than 256Ki; make it an artifact"),
        "{node}"
    );
    let long = json!({"message": "m".repeat(5000)});
    let node = outputs(&executor, json!([]), &long).await;
    assert_eq!(node["phase"], "Succeeded");
    assert!(
        message(&node).len() <= 1024 && message(&node).contains("m… (module sha256:"),
        "{node}"
    );
}

#[tokio::test]
async fn a_missing_output_artifact_fails_unless_optional() {
    let executor = Executor::start();
    let mut template = template("noop-work");
    template["outputs"] =
        json!({"artifacts": [{"name": "a", "path": "/out/a", "archive": {"none": {}}}]});
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Failed");
    assert!(
        message(&node).starts_with("output artifact `a` is missing: nothing exists at /out/a"),
        "{node}"
    );
    template["outputs"]["artifacts"][0]["optional"] = json!(true);
    assert_eq!(executor.node(&template).await["phase"], "Succeeded");
}

#[tokio::test]
async fn artifacts_named_only_by_the_module_are_stored() {
    let executor = Executor::start();
    let mut template = template("work-artifacts");
    template["inputs"] = json!({"artifacts": [{"name": "in", "path": "/deep/in/file", "raw": {"data": "raw text"}}]});
    template["outputs"] = json!({"artifacts": [{"name": "declared", "path": "/out/declared", "archive": {"none": {}}}]});
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert_eq!(
        node["outputs"]["result"], "raw text",
        "read through /work/artifacts-in"
    );
    assert!(
        message(&node).starts_with("links left out of the artifact `extra`: 1 (module "),
        "{node}"
    );
    let artifacts = node["outputs"]["artifacts"].as_array().unwrap();
    assert!(
        artifacts
            .iter()
            .all(|artifact| artifact["archive"] == json!({"none": {}})),
        "{node}"
    );
    let stored = |name: &str| {
        let artifact = artifacts
            .iter()
            .find(|artifact| artifact["name"] == name)
            .unwrap();
        executor
            .directory()
            .join("artifacts")
            .join(artifact["s3"]["key"].as_str().unwrap())
    };
    assert_eq!(
        std::fs::read_to_string(stored("declared")).unwrap(),
        "left under artifacts-out"
    );
    assert_eq!(
        std::fs::read_to_string(stored("extra").join("deep/file")).unwrap(),
        "in a directory"
    );
}

/// `/work/input.json` does not list an optional input that does not exist.
#[tokio::test]
async fn a_missing_optional_input_is_not_announced_to_the_module() {
    let executor = Executor::start();
    let mut template = template("cat");
    let input = json!({"name": "in", "path": "/deep/in/file", "optional": true, "s3": {"key": "nowhere"}, "archive": {"none": {}}});
    template["inputs"] = json!({"artifacts": [input]});
    template["plugin"]["wasm"]["args"] = json!(["/work/input.json"]);
    let node = executor.node(&template).await;
    let input: Value =
        serde_json::from_str(node["outputs"]["result"].as_str().unwrap_or_default()).unwrap();
    assert_eq!(input["artifacts"], json!([]), "{node}");
    template["plugin"]["wasm"]["args"] = json!(["/work/artifacts-in/deep/in/file"]);
    let node = executor.node(&template).await;
    assert_eq!(
        node["phase"], "Failed",
        "there is no link to a missing file: {node}"
    );
    template["inputs"]["artifacts"][0]["optional"] = json!(false);
    let node = executor.node(&template).await;
    assert_eq!(node["phase"], "Error");
    assert!(
        message(&node).contains("input artifact `in` (key `nowhere` in directory `"),
        "{node}"
    );
}

#[tokio::test]
async fn a_module_cannot_report_an_artifact_with_the_name_of_the_log() {
    let executor = Executor::start();
    let result = json!({"outputs": {"artifacts": [{"name": "main-logs", "path": "/out/x"}]}});
    let node = outputs(&executor, json!([]), &result).await;
    assert_eq!(node["phase"], "Failed", "{node}");
    assert!(
        message(&node).contains("`main-logs` is reserved for the log of the step"),
        "{node}"
    );
}
