//! Paths and keys of one step: inside each other, outside the step, and equal.

use std::process::Command;

use serde_json::json;
use wasm_workflow_integration::executor::template;
use wasm_workflow_integration::other_programs::succeed;
use wasm_workflow_integration::s3::S3;

use super::{copy, executor, executor_with, key};
use crate::message;

/// An input archive has links that lead out of the step's directory. The host must not write
/// through them when it unpacks the archive, other inputs and its own files.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_with_links_cannot_write_outside_the_step() {
    let s3 = S3::start().await;
    let home = tempfile::tempdir().unwrap();
    let executor = executor(&s3);
    let target = home.path().join("PWNED");
    let deep = "d/1/2/3/4/5/6/7/8";
    let up = "../".repeat(9);
    let script = format!(
        "mkdir -p {deep} && ln -s {up}d {deep}/r && ln -s {deep}/r/{up}{up}{target} input.json && echo > result.json && tar -czf ../evil.tgz . && \
         mkdir ../l && ln -s work ../l/foo && tar -czf ../link.tgz -C ../l foo",
        target = target.display().to_string().trim_start_matches('/')
    );
    std::fs::create_dir(home.path().join("a")).unwrap();
    let mut shell = Command::new("sh");
    succeed(
        shell
            .args(["-c", &script])
            .current_dir(home.path().join("a")),
    );
    for file in ["evil.tgz", "link.tgz"] {
        s3.put(file, std::fs::read(home.path().join(file)).unwrap());
    }
    let artifact =
        |name: &str, path: &str, key: &str| json!({"name": name, "path": path, "s3": {"key": key}});
    for inputs in [
        json!([
            artifact("l", "/.a.unpacking", "link.tgz"),
            artifact("a", "/a", "evil.tgz")
        ]),
        json!([artifact("a", "/work/x", "evil.tgz")]),
        json!([artifact("a", "/a", "evil.tgz")]),
    ] {
        let mut step = template("noop-work");
        step["inputs"] = json!({"artifacts": inputs});
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains("is a link"), "{node}");
        assert!(!target.exists(), "{node}");
    }
}

/// An output may be inside an input, an input inside another input, and an output inside a missing
/// optional input.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_outputs_may_be_nested() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    s3.put("src.tgz", crate::packed("src/text", b"a b c d"));
    s3.put("inner", "one");
    let mut step = copy(
        &json!({"s3": {"key": "src.tgz"}, "path": "/src"}),
        &json!({"path": "/src/build/out", "archive": {"none": {}}}),
    );
    step["plugin"]["wasm"]["args"] = json!(["/src/text", "/src/build/out"]);
    let node = executor.node(&step).await;
    assert_eq!(node["outputs"]["result"], "4", "{node}");
    step["inputs"]["artifacts"].as_array_mut().unwrap().insert(
        0,
        json!({"name": "inner", "path": "/src/text", "s3": {"key": "inner"}}),
    );
    let node = executor.node(&step).await;
    assert_eq!(
        node["outputs"]["result"], "1",
        "the inner input replaces a file of the outer one: {node}"
    );
    let input = json!({"name": "none", "path": "/out", "optional": true, "s3": {"key": "none"}});
    let mut step = copy(&json!({"s3": {"key": "inner"}}), &json!({}));
    step["inputs"]["artifacts"]
        .as_array_mut()
        .unwrap()
        .push(input);
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
}

/// Each object of a step has a different key, and equal keys are errors. The log of an earlier step
/// must not block the connection for a later step.
#[tokio::test(flavor = "multi_thread")]
async fn outputs_may_not_overwrite_each_other() {
    let s3 = S3::start().await;
    let executor = executor_with(&json!({"archiveLogs": true, "s3": s3.bucket()}));
    let mut quiet = template("noop-work");
    quiet["inputs"] = json!({"artifacts": [{"name": "a", "path": "/in/a", "raw": {"data": "x"}}]});
    let node = executor.node(&quiet).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    s3.put("in/text", "a b");
    let started = std::time::Instant::now();
    let mut step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"path": "/out/main.log", "archive": {"none": {}}}),
    );
    step["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/main.log"]);
    step["outputs"]["artifacts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "again", "path": "/in/text", "s3": {"key": "fixed"}}));
    let node = executor.node(&step).await;
    assert!(
        started.elapsed().as_secs() < 60,
        "the step waited for a blocked connection: {node}"
    );
    let artifacts = node["outputs"]["artifacts"].as_array().unwrap();
    let keys: std::collections::BTreeSet<&str> = artifacts
        .iter()
        .map(|artifact| artifact["s3"]["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys.len(), 3, "{node}");
    assert_eq!(
        std::fs::read_to_string(s3.object(key(&node))).unwrap(),
        "a b"
    );
    step["outputs"]["artifacts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "twice", "path": "/in/text", "s3": {"key": "fixed"}}));
    let node = executor.node(&step).await;
    assert!(
        message(&node).contains("another output of this template has the same location"),
        "{node}"
    );
    let elsewhere =
        json!({"s3": {"endpoint": s3.endpoint, "bucket": "others", "insecure": true, "key": "k"}});
    let node = executor.node(&copy(&elsewhere, &json!({}))).await;
    assert!(
        message(&node)
            .contains("the executor uses its own credentials only for workflows' own repositories"),
        "{node}"
    );
}
