//! Single objects, archives, directories and logs.

use std::process::Command;

use serde_json::json;
use wasm_workflow_integration::s3::{Fault, S3};

use super::{copy, executor, executor_with, from_tar, key};
use crate::message;

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_gzipped_tars_that_the_next_step_unpacks() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    s3.put("in/text", "one two three");
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "in/text"}}),
            &json!({"globalName": "g", "artifactGC": {"strategy": "Never"}}),
        ))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let artifact = &node["outputs"]["artifacts"][0];
    assert_eq!(
        (&artifact["globalName"], &artifact["artifactGC"]["strategy"]),
        (&json!("g"), &json!("Never")),
        "{node}"
    );
    assert!(
        key(&node).starts_with("wf/wf-word-count-") && key(&node).ends_with("/copy.tgz"),
        "{node}"
    );
    assert_eq!(from_tar(&s3.object(key(&node)), "copy"), "one two three");
    // Argo passes the artifact to the next step, which reads it at another path.
    let again = executor
        .node(&copy(
            &json!({"s3": artifact["s3"]}),
            &json!({"archive": {"none": {}}}),
        ))
        .await;
    assert_eq!(again["phase"], "Succeeded", "{again}");
    assert!(key(&again).ends_with("/copy"), "{again}");
    assert_eq!(
        std::fs::read_to_string(s3.object(key(&again))).unwrap(),
        "one two three"
    );
    let once_more = executor
        .node(&copy(&json!({"s3": {"key": "in/text"}}), &json!({})))
        .await;
    assert_ne!(
        key(&once_more),
        key(&node),
        "each attempt has a different key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_exchanged_with_other_tools() {
    let s3 = S3::start().await;
    let home = tempfile::tempdir().unwrap();
    let executor = executor(&s3);
    std::fs::write(home.path().join("text"), "a b").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(home.path())
            .output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    run("tar", &["-czf", "gnu.tgz", "text"]);
    run("tar", &["--format=pax", "-cf", "plain.tar", "./text"]);
    run("bsdtar", &["-czf", "bsd.tgz", "text"]);
    run(
        "python3",
        &[
            "-c",
            "import tarfile; tarfile.open('python.tgz', 'w:gz').add('text')",
        ],
    );
    run("python3", &["-m", "zipfile", "-c", "python.zip", "text"]);
    for (file, archive) in [
        ("gnu.tgz", json!(null)),
        ("gnu.tgz", json!({"tar": {}})),
        ("plain.tar", json!({"tar": {}})),
        ("bsd.tgz", json!(null)),
        ("python.tgz", json!({})),
        ("python.zip", json!({"zip": {}})),
        ("text", json!(null)),
        ("text", json!({"none": {}})),
    ] {
        s3.put(
            &format!("in/{file}"),
            std::fs::read(home.path().join(file)).unwrap(),
        );
        let input = json!({"s3": {"key": format!("in/{file}")}, "archive": archive, "mode": 0o444});
        let node = executor
            .node(&copy(&input, &json!({"archive": {"none": {}}})))
            .await;
        assert_eq!(node["outputs"]["result"], "2", "{file} {archive}: {node}");
    }
    // With the strategy `none`, an archive is not unpacked.
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "in/gnu.tgz"}, "archive": {"none": {}}}),
            &json!({"archive": {"none": {}}}),
        ))
        .await;
    assert_eq!(
        std::fs::read(s3.object(key(&node))).unwrap(),
        std::fs::read(home.path().join("gnu.tgz")).unwrap()
    );
    for (archive, list) in [
        (json!({"tar": {"compressionLevel": 0}}), ["tar", "-tzf"]),
        (json!({"tar": {"compressionLevel": 9}}), ["bsdtar", "-tf"]),
        (json!({"zip": {}}), ["bsdtar", "-tf"]),
    ] {
        let node = executor
            .node(&copy(
                &json!({"s3": {"key": "in/text"}}),
                &json!({"archive": archive}),
            ))
            .await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
        assert_eq!(
            node["outputs"]["artifacts"][0]["archive"], archive,
            "{node}"
        );
        let file = s3.object(key(&node)).display().to_string();
        assert_eq!(run(list[0], &[list[1], &file]).trim(), "copy", "{archive}");
    }
    let zipped = s3
        .keys()
        .into_iter()
        .find(|key| key.ends_with("copy.zip"))
        .unwrap();
    let script =
        "import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read('copy').decode(), end='')";
    assert_eq!(
        run(
            "python3",
            &["-c", script, s3.object(&zipped).to_str().unwrap()]
        ),
        "a b"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_locations_are_used_and_server_errors_are_named() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    s3.put("in/text", "x");
    let mut location = s3.bucket();
    location["key"] = json!("mine/result.tgz");
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "in/text"}}),
            &json!({"s3": location}),
        ))
        .await;
    assert_eq!(
        node["outputs"]["artifacts"][0]["s3"], location,
        "consumers get the complete location: {node}"
    );
    assert_eq!(from_tar(&s3.object("mine/result.tgz"), "copy"), "x");
    let node = executor
        .node(&copy(&json!({"s3": {"key": "none"}}), &json!({})))
        .await;
    assert_eq!(node["phase"], "Error", "{node}");
    let expected = format!(
        "input artifact `text` (key `none` in bucket `artifacts` at `{}`): there is no object `none`",
        s3.endpoint
    );
    assert!(message(&node).contains(&expected), "{node}");
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "none"}, "optional": true}),
            &json!({}),
        ))
        .await;
    assert_eq!(
        node["phase"], "Failed",
        "the module fails without the optional input: {node}"
    );
    for (code, status, expected) in [
        ("AccessDenied", 403, "access to object `in/text` is denied"),
        (
            "InvalidAccessKeyId",
            403,
            "the access key is not known to the server",
        ),
        ("SignatureDoesNotMatch", 403, "the secret key is wrong"),
        ("ExpiredToken", 400, "the session token is expired"),
        ("NoSuchBucket", 404, "the bucket does not exist: create it"),
        (
            "RequestTimeTooSkewed",
            403,
            "the clocks of this machine and of the server differ too much",
        ),
    ] {
        s3.fail("GET /artifacts/in/text", Fault::Error(status, code));
        let node = executor
            .node(&copy(&json!({"s3": {"key": "in/text"}}), &json!({})))
            .await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{code}: {node}");
    }
    for kind in [
        "git",
        "gcs",
        "azure",
        "oss",
        "hdfs",
        "artifactory",
        "plugin",
    ] {
        let node = executor
            .node(&copy(&json!({kind: {"key": "k"}}), &json!({})))
            .await;
        assert!(
            message(&node).contains(&format!(
                "artifacts of the kind `{kind}` are not supported; use"
            )),
            "{node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_stored_as_prefixes_or_archives() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    for number in 0..40 {
        s3.put(&format!("in/dir/{number}/file"), format!("{number}"));
    }
    let mut through = copy(
        &json!({"s3": {"key": "in/dir"}}),
        &json!({"path": "/in/text", "archive": {"none": {}}}),
    );
    through["plugin"]["wasm"]["args"] = json!(["/in/text/7/file", "/tmp/x"]);
    let node = executor.node(&through).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let below = s3
        .keys()
        .into_iter()
        .filter(|one| one.starts_with(key(&node)))
        .count();
    assert_eq!(below, 40, "{node}");
    through["outputs"]["artifacts"][0]
        .as_object_mut()
        .unwrap()
        .remove("archive");
    let node = executor.node(&through).await;
    assert_eq!(from_tar(&s3.object(key(&node)), "text/39/file"), "39");
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "in/dir"}, "archive": {"tar": {}}}),
            &json!({}),
        ))
        .await;
    assert!(
        message(&node).contains("an archive was expected, but the key is a directory"),
        "{node}"
    );
}

/// With `archiveLogs` of the repository or of the template, the log is stored whether the module
/// succeeds or fails.
#[tokio::test(flavor = "multi_thread")]
async fn archived_logs_are_an_output_artifact() {
    let s3 = S3::start().await;
    let mut failing = copy(&json!({"raw": {"data": "x"}}), &json!({"optional": true}));
    failing["plugin"]["wasm"]["args"] = json!(["/none", "/out/copy"]);
    for (executor, location) in [
        (
            executor_with(&json!({"archiveLogs": true, "s3": s3.bucket()})),
            json!(null),
        ),
        (executor(&s3), json!({"archiveLogs": true})),
    ] {
        let mut step = copy(&json!({"raw": {"data": "a b c"}}), &json!({}));
        step["archiveLocation"] = location.clone();
        failing["archiveLocation"] = location;
        for (step, phase, expected) in [
            (&step, "Succeeded", "3\n"),
            (&failing, "Failed", "word-count: /none"),
        ] {
            let node = executor.node(step).await;
            assert_eq!(node["phase"], phase, "{node}");
            let artifacts = node["outputs"]["artifacts"].as_array().unwrap();
            let log = artifacts
                .iter()
                .find(|artifact| artifact["name"] == "main-logs")
                .unwrap();
            let key = log["s3"]["key"].as_str().unwrap();
            assert!(
                key.ends_with("/main.log") && log.get("path").is_none(),
                "{node}"
            );
            assert!(
                std::fs::read_to_string(s3.object(key))
                    .unwrap()
                    .starts_with(expected),
                "{node}"
            );
        }
    }
    let node = executor(&s3)
        .node(&copy(&json!({"raw": {"data": "a"}}), &json!({})))
        .await;
    assert_eq!(
        node["outputs"]["artifacts"].as_array().unwrap().len(),
        1,
        "{node}"
    );
}

/// Content from S3 is used as it is stored, also if the object has a content coding: Argo's S3
/// client turns decompression off.
#[tokio::test(flavor = "multi_thread")]
async fn content_codings_of_objects_are_kept() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let gzipped = crate::packed("text", b"one two three");
    s3.put("in/coded", &gzipped);
    let none = json!({"none": {}});
    s3.fail(
        "GET /artifacts/in/coded",
        Fault::Headers(&[("content-encoding", "gzip")]),
    );
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "in/coded"}, "archive": none}),
            &json!({"archive": none}),
        ))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert_eq!(std::fs::read(s3.object(key(&node))).unwrap(), gzipped);
}
