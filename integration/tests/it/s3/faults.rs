//! Stores that fail: for a while, in the middle, without a word; and what is left behind.

use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, request};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::s3::{Fault, S3};

use super::{copy, executor, key};
use crate::message;

/// Nothing is lost by what passes, and nothing half-written is seen.
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
        // It is stored, and nobody hears of it.
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
    // Broken off, or closed before it began: the server decides how much of a lost answer leaves it.
    assert!(message(&node).contains(", after 3 attempts"), "{node}");
}

/// In parts, which nobody sees before the last is there.
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
    let asked = s3.asked();
    assert!(
        asked.iter().any(|asked| asked.contains("partNumber=3")),
        "{asked:?}"
    );
    let before = s3.keys();
    for _ in 0..20 {
        s3.fail("partNumber=2", Fault::Error(403, "AccessDenied"));
    }
    let node = executor.node(&step).await;
    assert!(message(&node).contains("access to object"), "{node}");
    assert_eq!(s3.keys(), before, "nothing of it is seen");
    assert!(
        s3.asked()
            .iter()
            .any(|asked| asked.starts_with("DELETE") && asked.contains("uploadId")),
        "it is taken back"
    );
}

/// All that failed is said, and what is in the store already; and an input that is larger than the step's disk.
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
        "; stored already: `copy` (key `wf/",
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

/// Large objects come in parts. One that breaks off goes on where it was, and all are of one object.
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
    // All but one come whole, as none is larger than that; that one breaks off twice.
    for length in [usize::MAX; 6].into_iter().chain([1_000_000, 100_000]) {
        s3.fail("GET /artifacts/in/text", Fault::Cut(length));
    }
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(std::fs::read(s3.object(key(&node))).unwrap() == text);
    let asked = s3
        .asked()
        .iter()
        .filter(|asked| asked.starts_with("GET /artifacts/in/text"))
        .count();
    assert_eq!(
        asked,
        7 + 2,
        "27 MB in parts of 4 MiB, and twice more: {:?}",
        s3.asked()
    );
}

/// The answer to the last request of an upload is lost: what is there counts.
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
    let asked = s3.asked();
    assert!(
        asked
            .iter()
            .any(|asked| asked.starts_with("HEAD /artifacts/wf/")),
        "it looked: {asked:?}"
    );
}

/// Nothing that was begun stays in a bucket when the program is stopped.
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
    // Parts that are asked for again and again: it is not done when the signal comes.
    for _ in 0..50 {
        s3.fail("partNumber=3", Fault::Error(503, "SlowDown"));
    }
    let stop = async {
        while !s3
            .asked()
            .iter()
            .any(|asked| asked.contains("partNumber=3"))
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
    let ((status, reply), ()) = tokio::join!(
        executor.post(request(&step).to_string(), &executor.token),
        stop
    );
    assert_eq!(
        (status, reply.as_str()),
        (200, r#"{"node":{},"requeue":"1s"}"#)
    );
    let (code, _) = tokio::task::spawn_blocking(move || executor.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0));
    let asked = s3.asked();
    assert!(
        asked
            .iter()
            .any(|asked| asked.starts_with("DELETE") && asked.contains("uploadId")),
        "{asked:?}"
    );
}

/// The step's limit on its disk is one for all that it brings.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_share_the_disk_limit() {
    let s3 = S3::start().await;
    let config = json!({
        "sources": {"files": guests::directory(), "insecure": [s3.endpoint]},
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
    assert!(
        !message(&node).contains("the step's limit on its disk"),
        "{node}"
    );
    let inputs = step["inputs"]["artifacts"].as_array_mut().unwrap();
    inputs.push(json!({"name": "more", "path": "/more", "s3": {"key": "in/a"}}));
    let node: Value = executor.node(&step).await;
    assert!(
        message(&node).contains("bytes, which the step's limit on its disk leaves"),
        "{node}"
    );
    step["inputs"]["artifacts"][1] =
        json!({"name": "more", "path": "/more", "raw": {"data": "a".repeat(2 << 20)}});
    let node: Value = executor.node(&step).await;
    assert!(message(&node).contains("on its disk"), "{node}");
}

/// A byte a second: nobody waits for the end of that, and it is not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_sends_too_slowly_is_an_error() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    s3.put("in/text", "a".repeat(10_000));
    s3.fail("GET /artifacts/in/text", Fault::Drip);
    let node = executor
        .node(&copy(&json!({"s3": {"key": "in/text"}}), &json!({})))
        .await;
    assert_eq!(node["phase"], "Error", "{node}");
    assert!(
        message(&node).contains("(key `in/text` in bucket `artifacts` at `127.0.0.1:"),
        "{node}"
    );
    assert!(message(&node).contains(" is too slow: "), "{node}");
    assert_eq!(s3.asked().len(), 1);
}

/// Parts are of the object that the server keeps a checksum of. The CRC-32 of the text is from another program.
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
        message(&node).contains("not what the store keeps a checksum of, after 3 attempts"),
        "{node}"
    );
}

/// Where the server says that it looks at CRC-32C, each part has that, and no MD5.
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
        // It knows no checksums, and refuses what asks for one.
        (
            Fault::Error(501, "NotImplemented"),
            "content-md5",
            "x-amz-checksum-crc32c",
        ),
    ] {
        s3.asked();
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

/// The machine's disk is full before the step's own limit is reached: which artifact met it is said, and nothing of it is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_names_the_artifact_and_leaves_nothing() {
    let s3 = S3::start().await;
    let scratch = tempfile::tempdir().unwrap();
    let config = json!({
        "sources": {"files": guests::directory(), "insecure": [s3.endpoint]},
        "artifacts": {"repository": {"s3": s3.bucket()}},
        "limits": {"diskFree": "1Ki"},
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
        let said = message(&node);
        assert!(
            said.contains(&format!("input artifact `text` (key `{key}` in bucket")),
            "{node}"
        );
        assert!(said.contains("No space left on device"), "{node}");
    }
    let node = executor
        .node(&copy(&json!({"s3": {"key": "in/small"}}), &json!({})))
        .await;
    assert_eq!(node["phase"], "Succeeded", "there is room again: {node}");
}
