//! Stores with faults: transient errors, broken connections, lost answers and slow answers.

use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, HttpReply, Options, request};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::s3::{Fault, S3};

use super::{copy, executor, key};
use crate::message;

/// After transient errors, the stored objects are complete.
#[tokio::test(flavor = "multi_thread")]
async fn transient_store_errors_are_retried() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let text = "word ".repeat(200_000);
    s3.put("in/text", &text);
    let step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"archive": {"none": {}}}),
    );
    for fault in [
        Fault::Error(503, "SlowDown"),
        Fault::Status(500),
        Fault::Cut(1000),
        Fault::Cut(500_000),
    ] {
        s3.fail("GET /artifacts/in/text", fault.clone());
        s3.fail("PUT /artifacts/wf/", Fault::Error(503, "SlowDown"));
        // The object is stored, but the answer is lost.
        s3.fail("PUT /artifacts/wf/", Fault::Cut(0));
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Succeeded", "{fault:?}: {node}");
        assert_eq!(
            std::fs::read_to_string(s3.object(key(&node))).unwrap(),
            text,
            "{fault:?}"
        );
    }
    for _ in 0..20 {
        s3.fail("GET /artifacts/in/text", Fault::Cut(1000));
    }
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Error", "{node}");
    // The error is a truncated answer or a closed connection. That depends on how much of the
    // answer the server has sent.
    assert!(message(&node).contains(", after 3 attempts"), "{node}");
}

/// Large objects are stored with multipart uploads. An upload that fails is aborted, and leaves no
/// object.
#[tokio::test(flavor = "multi_thread")]
async fn large_uploads_are_multipart_and_aborted_on_failure() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let text = "0123456789abcde\n".repeat(1_300_000);
    s3.put("in/text", &text);
    let step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"archive": {"none": {}}}),
    );
    s3.fail("partNumber=2", Fault::Error(503, "SlowDown"));
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(std::fs::read_to_string(s3.object(key(&node))).unwrap() == text);
    let requests = s3.take_requests();
    assert!(
        requests
            .iter()
            .any(|request| request.contains("partNumber=3")),
        "{requests:?}"
    );
    let before = s3.keys();
    for _ in 0..20 {
        s3.fail("partNumber=2", Fault::Error(403, "AccessDenied"));
    }
    let node = executor.node(&step).await;
    assert!(message(&node).contains("access to object"), "{node}");
    assert_eq!(s3.keys(), before, "no object was stored");
    assert!(
        s3.take_requests()
            .iter()
            .any(|request| request.starts_with("DELETE") && request.contains("uploadId")),
        "the upload is aborted"
    );
}

/// The message names the uploads that failed, and the artifacts that are already stored. An input
/// that is larger than the disk limit is an error.
#[tokio::test(flavor = "multi_thread")]
async fn upload_errors_name_the_artifacts_already_stored() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let mut step = copy(&json!({"raw": {"data": "a b"}}), &json!({}));
    for name in ["denied", "refused"] {
        step["outputs"]["artifacts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": name, "path": "/out/copy"}));
        for _ in 0..5 {
            s3.fail(&format!("/{name}.tgz"), Fault::Error(403, "AccessDenied"));
        }
    }
    let node = executor.node(&step).await;
    assert_eq!(
        (&node["phase"], &node["outputs"]["exitCode"]),
        (&json!("Error"), &json!("0")),
        "{node}"
    );
    for expected in [
        "output artifact `denied` (key `wf/",
        "; `refused` (key `wf/",
        "; already stored: `copy` (key `wf/",
    ] {
        assert!(message(&node).contains(expected), "{expected}: {node}");
    }
    s3.put("large", vec![b'x'; 3 << 20]);
    s3.put("bomb.tgz", crate::packed("text", &vec![b'x'; 3 << 20]));
    for key in ["large", "bomb.tgz"] {
        let mut step = copy(&json!({"s3": {"key": key}}), &json!({}));
        step["plugin"]["wasm"]["limits"] = json!({"disk": "2Mi"});
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains("2097152 bytes"), "{node}");
    }
}

/// Large objects are downloaded in parts. A part whose connection breaks is resumed where it
/// stopped.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_part_downloads_are_resumed() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let text: Vec<u8> = (0..3_400_000u64).flat_map(u64::to_le_bytes).collect();
    s3.put("in/text", &text);
    let step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"archive": {"none": {}}}),
    );
    // Six requests get their complete part. The connection of one part breaks twice.
    for length in [usize::MAX; 6].into_iter().chain([1_000_000, 100_000]) {
        s3.fail("GET /artifacts/in/text", Fault::Cut(length));
    }
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(std::fs::read(s3.object(key(&node))).unwrap() == text);
    let requests = s3
        .take_requests()
        .iter()
        .filter(|request| request.starts_with("GET /artifacts/in/text"))
        .count();
    assert_eq!(
        requests,
        7 + 2,
        "27 MB are seven parts of 4 MiB, and there are two retries: {:?}",
        s3.take_requests()
    );
}

/// The answer to the last request of an upload is lost. The executor then finds the stored object.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_last_answer_is_lost_succeeds() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let text = "0123456789abcde\n".repeat(1_300_000);
    s3.put("in/text", &text);
    let step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"archive": {"none": {}}}),
    );
    s3.fail("?uploadId=", Fault::Cut(0));
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(std::fs::read_to_string(s3.object(key(&node))).unwrap() == text);
    let requests = s3.take_requests();
    assert!(
        requests
            .iter()
            .any(|request| request.starts_with("HEAD /artifacts/wf/")),
        "the executor looks for the object: {requests:?}"
    );
}

/// A stopped program aborts its multipart uploads, so that no parts stay in the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_aborts_multipart_uploads() {
    let s3 = S3::start().await;
    let mut executor = executor(&s3);
    let text = "0123456789abcde\n".repeat(2_000_000);
    s3.put("in/text", &text);
    let step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"archive": {"none": {}}}),
    );
    // One part fails repeatedly, so that the upload still runs when the signal arrives.
    for _ in 0..50 {
        s3.fail("partNumber=3", Fault::Error(503, "SlowDown"));
    }
    let stop = async {
        while !s3
            .take_requests()
            .iter()
            .any(|request| request.contains("partNumber=3"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let id = executor.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .arg(id)
                .status()
                .unwrap()
                .success()
        );
    };
    let (HttpReply { status, body }, ()) = tokio::join!(
        executor.post(request(&step).to_string(), &executor.token),
        stop
    );
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"node":{},"requeue":"1s"}"#)
    );
    let exit = tokio::task::spawn_blocking(move || executor.terminate())
        .await
        .unwrap();
    assert_eq!(exit.code, Some(0));
    let requests = s3.take_requests();
    assert!(
        requests
            .iter()
            .any(|request| request.starts_with("DELETE") && request.contains("uploadId")),
        "{requests:?}"
    );
}

/// The disk limit of a step applies to the sum of its inputs.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_share_the_disk_limit() {
    let s3 = S3::start().await;
    let config = json!({
        "sources": {"fileRoot": guests::directory(), "insecure": [s3.endpoint]},
        "artifacts": {"repository": {"s3": s3.bucket()}},
        "limits": {"disk": "4Mi"},
    });
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: S3::environment(),
        ..Options::default()
    });
    s3.put("in/a", "a".repeat(3 << 20));
    let mut step = copy(
        &json!({"s3": {"key": "in/a"}}),
        &json!({"archive": {"none": {}}}),
    );
    let node = executor.node(&step).await;
    assert!(!message(&node).contains("the step's disk limit"), "{node}");
    let inputs = step["inputs"]["artifacts"].as_array_mut().unwrap();
    inputs.push(json!({"name": "more", "path": "/more", "s3": {"key": "in/a"}}));
    let node: Value = executor.node(&step).await;
    assert!(
        message(&node).contains("bytes that are left of the step's disk limit"),
        "{node}"
    );
    step["inputs"]["artifacts"][1] =
        json!({"name": "more", "path": "/more", "raw": {"data": "a".repeat(2 << 20)}});
    let node: Value = executor.node(&step).await;
    assert!(message(&node).contains("the step's disk limit"), "{node}");
}

/// The store sends one byte a second. The download is not retried.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_sends_too_slowly_is_an_error() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    s3.put("in/text", "a".repeat(10_000));
    s3.fail("GET /artifacts/in/text", Fault::Slow);
    let node = executor
        .node(&copy(&json!({"s3": {"key": "in/text"}}), &json!({})))
        .await;
    assert_eq!(node["phase"], "Error", "{node}");
    assert!(
        message(&node).contains("(key `in/text` in bucket `artifacts` at `127.0.0.1:"),
        "{node}"
    );
    assert!(message(&node).contains(" is too slow: "), "{node}");
    assert_eq!(s3.take_requests().len(), 1);
}

/// The assembled parts are verified against the checksum of the full object. Another program
/// computed the CRC-32 of the text.
#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_verified_against_the_full_object_checksum() {
    const FULL: (&str, &str) = ("x-amz-checksum-type", "FULL_OBJECT");
    let s3 = S3::start().await;
    let executor = executor(&s3);
    s3.put("in/text", "0123456789abcde\n".repeat(1_300_000));
    let step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"archive": {"none": {}}}),
    );
    s3.fail(
        "HEAD /artifacts/in/text",
        Fault::Headers(&[FULL, ("x-amz-checksum-crc32", "iacyug==")]),
    );
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    for _ in 0..3 {
        s3.fail(
            "HEAD /artifacts/in/text",
            Fault::Headers(&[FULL, ("x-amz-checksum-crc32", "AAAAAA==")]),
        );
    }
    let node = executor.node(&step).await;
    assert!(
        message(&node).contains("does not match the checksum of the object, after 3 attempts"),
        "{node}"
    );
}

/// If the server verifies CRC-32C, each part has a CRC-32C and no MD5. Otherwise each part has an
/// MD5.
#[tokio::test(flavor = "multi_thread")]
async fn upload_parts_use_the_checksum_that_the_server_supports() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let text = "0123456789abcde\n".repeat(1_300_000);
    s3.put("in/text", &text);
    let step = copy(
        &json!({"s3": {"key": "in/text"}}),
        &json!({"archive": {"none": {}}}),
    );
    for (known, header, other) in [
        (
            Fault::Headers(&[("x-amz-checksum-algorithm", "CRC32C")]),
            "x-amz-checksum-crc32c",
            "content-md5",
        ),
        // The server does not support checksums, and refuses the request for one.
        (
            Fault::Error(501, "NotImplemented"),
            "content-md5",
            "x-amz-checksum-crc32c",
        ),
    ] {
        s3.take_requests();
        s3.fail("?uploads", known);
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
        assert!(std::fs::read_to_string(s3.object(key(&node))).unwrap() == text);
        let parts = s3.headers("partNumber=");
        assert_eq!(parts.len(), 4);
        assert!(
            parts
                .iter()
                .all(|headers| headers.contains_key(header) && !headers.contains_key(other)),
            "{parts:?}"
        );
    }
}

/// The disk of the machine is full before the limit of the step is reached. The message names the
/// artifact, and the space is free again for the next step.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_names_the_artifact_and_leaves_nothing() {
    let s3 = S3::start().await;
    let scratch = tempfile::tempdir().unwrap();
    let config = json!({
        "sources": {"fileRoot": guests::directory(), "insecure": [s3.endpoint]},
        "artifacts": {"repository": {"s3": s3.bucket()}},
        "capacity": {"minFreeDisk": "1Ki"},
    });
    let mount = "mount -t tmpfs -o size=4m tmpfs \"$SCRATCH\" && exec \"$@\"";
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: S3::environment()
            .into_iter()
            .chain([("SCRATCH".to_owned(), scratch.path().display().to_string())])
            .collect(),
        scratch: Some(scratch.path().to_owned()),
        wrapper: ["unshare", "--mount", "sh", "-c", mount, "sh"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    });
    s3.put("in/large", vec![b'x'; 8 << 20]);
    s3.put("in/small", "a b");
    s3.put("in/packed.tgz", crate::packed("text", &vec![b'x'; 8 << 20]));
    for key in ["in/large", "in/packed.tgz"] {
        let node = executor
            .node(&copy(&json!({"s3": {"key": key}}), &json!({})))
            .await;
        assert_eq!(node["phase"], "Error", "{node}");
        let message = message(&node);
        assert!(
            message.contains(&format!("input artifact `text` (key `{key}` in bucket")),
            "{node}"
        );
        assert!(message.contains("No space left on device"), "{node}");
    }
    let node = executor
        .node(&copy(&json!({"s3": {"key": "in/small"}}), &json!({})))
        .await;
    assert_eq!(
        node["phase"], "Succeeded",
        "the space is free again: {node}"
    );
}
