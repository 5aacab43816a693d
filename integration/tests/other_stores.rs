//! Artifacts in S3 servers of other projects. `integration/other-stores` runs these tests.

#![allow(clippy::unwrap_used, reason = "an unexpected value fails the test")]

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::other_stores::{OtherStore, fetched};

fn executor(store: &OtherStore) -> Executor {
    let repository = json!({"s3": store.bucket()});
    let config = json!({"artifacts": {"repository": repository}, "sources": {"fileRoot": guests::directory()}});
    Executor::start_with(Options {
        config: Some(config.to_string()),
        env: OtherStore::environment(),
        ..Options::default()
    })
}

/// Template of `word-count /in/text /out/copy`.
fn copy(input: &Value, archive: &Value) -> Value {
    let mut template = template("word-count");
    template["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "s3": input}]});
    template["outputs"] =
        json!({"artifacts": [{"name": "copy", "path": "/out/copy", "archive": archive}]});
    template["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
    template
}

/// Runs a template, and returns the key of its first output artifact.
async fn run(executor: &Executor, template: &Value) -> String {
    let node = executor.node(template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    node["outputs"]["artifacts"][0]["s3"]["key"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Files and archives are read and written. A missing object and a bucket without keys are errors.
async fn small_artifacts_round_trip(store: &OtherStore) {
    let executor = executor(store);
    let text = b"one two three".repeat(1000);
    store.put("in/text", &text);
    let key = run(
        &executor,
        &copy(&json!({"key": "in/text"}), &json!({"none": {}})),
    )
    .await;
    assert_eq!(store.get(&key), text);
    for archive in [json!({"tar": {}}), json!({"zip": {}})] {
        let key = run(&executor, &copy(&json!({"key": "in/text"}), &archive)).await;
        let mut again = copy(&json!({"key": key}), &json!({"none": {}}));
        again["inputs"]["artifacts"][0]["archive"] = archive;
        assert_eq!(store.get(&run(&executor, &again).await), text);
    }
    let missing = executor
        .node(&copy(&json!({"key": "none"}), &json!({"none": {}})))
        .await;
    assert!(
        missing["message"]
            .as_str()
            .unwrap()
            .contains("there is no object `none`"),
        "{missing}"
    );
    let elsewhere =
        json!({"key": "in/text", "bucket": "other", "endpoint": store.endpoint, "insecure": true});
    let node = executor.node(&copy(&elsewhere, &json!({"none": {}}))).await;
    assert!(
        node["message"]
            .as_str()
            .unwrap()
            .contains("the bucket needs `accessKeySecret` and `secretKeySecret`"),
        "{node}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_round_trip_through_rclone() {
    small_artifacts_round_trip(&OtherStore::rclone(&fetched("rclone"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_round_trip_through_garage() {
    let store = OtherStore::garage(&fetched("garage"));
    small_artifacts_round_trip(&store).await;
    // Large objects are uploaded and downloaded in parts.
    let large: Vec<u8> = (0..5_000_000u64).flat_map(u64::to_le_bytes).collect();
    store.put("in/large", &large);
    let key = run(
        &executor(&store),
        &copy(&json!({"key": "in/large"}), &json!({"none": {}})),
    )
    .await;
    assert!(store.get(&key) == large);
    let again = run(
        &executor(&store),
        &copy(&json!({"key": key}), &json!({"none": {}})),
    )
    .await;
    assert!(
        store.get(&again) == large,
        "an object that was uploaded in parts is complete"
    );
}
