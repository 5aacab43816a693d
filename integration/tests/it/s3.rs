//! Artifacts in S3, as container steps leave and find them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wasm_workflow_integration::eventually;
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::kubernetes::Kubernetes;
use wasm_workflow_integration::s3::{ACCESS_KEY, Fault, S3, SECRET_KEY};

use crate::message;

/// An executor whose operator names the server's bucket, and has its keys.
pub(crate) fn executor(s3: &S3) -> Executor {
    with(&json!({"s3": s3.bucket()}))
}

fn with(repository: &Value) -> Executor {
    let guests = wasm_workflow_integration::guests::directory();
    let config = json!({"artifacts": {"repository": repository}, "sources": {"files": guests}});
    Executor::start_with(Options {
        config: Some(config.to_string()),
        env: S3::environment(),
        ..Options::default()
    })
}

/// `word-count /in/text /out/copy /out/count`
pub(crate) fn copy(input: &Value, output: &Value) -> Value {
    let mut template = template("word-count");
    let merged = |own: Value, more: &Value| {
        let mut own = own;
        own.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        own
    };
    template["inputs"] =
        json!({"artifacts": [merged(json!({"name": "text", "path": "/in/text"}), input)]});
    template["outputs"] =
        json!({"artifacts": [merged(json!({"name": "copy", "path": "/out/copy"}), output)]});
    template["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
    template
}

pub(crate) fn key(node: &Value) -> &str {
    node["outputs"]["artifacts"][0]["s3"]["key"]
        .as_str()
        .unwrap_or_else(|| panic!("{node}"))
}

/// The content of a file in an archive, as GNU tar reads it.
fn from_tar(archive: &Path, name: &str) -> String {
    let output = Command::new("tar")
        .args(["-xzOf"])
        .arg(archive)
        .arg(name)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_and_a_gzipped_tar_out_which_the_next_step_unpacks() {
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
    // The next step gets what Argo passes on: the same artifact, at another path.
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
        "an attempt of its own has a key of its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_others_go_in_and_ours_come_out() {
    let (s3, home) = (S3::start().await, tempfile::tempdir().unwrap());
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
    // A payload that is an archive, and is to stay one.
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

/// As Argo 4 finds it: in the status of the Workflow, with keys from Secrets of its namespace.
#[tokio::test(flavor = "multi_thread")]
async fn the_workflows_own_repository_and_its_secrets() {
    let (s3, kubernetes, home) = (
        S3::start().await,
        Kubernetes::start().await,
        tempfile::tempdir().unwrap(),
    );
    let mut bucket = s3.bucket();
    bucket["accessKeySecret"] = json!({"name": "s3", "key": "access"});
    bucket["secretKeySecret"] = json!({"name": "s3", "key": "secret"});
    bucket["keyFormat"] =
        json!("{{workflow.namespace}}/{{workflow.parameters.env}}/{{workflow.name}}/{{pod.name}}");
    let encode =
        |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    kubernetes.put(
        "secrets/s3",
        json!({"data": {"access": encode(ACCESS_KEY), "secret": encode(SECRET_KEY)}}),
    );
    let status = json!({"artifactRepositoryRef": {"default": true, "artifactRepository": {"archiveLogs": true, "s3": bucket}}});
    kubernetes.put(
        "workflows/wf",
        json!({"spec": {"arguments": {"parameters": [{"name": "env", "value": "prod"}]}}, "status": status}),
    );
    let guests = wasm_workflow_integration::guests::directory();
    let config = json!({"sources": {"files": guests, "insecure": [s3.endpoint]}}).to_string();
    let flags = vec![
        "--kubeconfig".to_owned(),
        kubernetes.kubeconfig(home.path()).display().to_string(),
    ];
    let start = || {
        Executor::start_with(Options {
            config: Some(config.clone()),
            flags: flags.clone(),
            ..Options::default()
        })
    };
    s3.put("in/text", "one two");
    let step = copy(&json!({"s3": {"key": "in/text"}}), &json!({}));
    let node = start().node(&step).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(
        key(&node).starts_with("argo/prod/wf/wf-word-count-"),
        "{node}"
    );
    assert_eq!(
        node["outputs"]["artifacts"][0]["s3"]
            .as_object()
            .unwrap()
            .len(),
        1,
        "a key alone: {node}"
    );
    // A ConfigMap says it where the Workflow may not be read.
    kubernetes.forbid("workflows/wf");
    let map = json!({"metadata": {"annotations": {"workflows.argoproj.io/default-artifact-repository": "main"}},
        "data": {"main": format!("s3: {}", json!({"endpoint": s3.endpoint, "bucket": "artifacts", "insecure": true, "keyPrefix": "of-map",
            "accessKeySecret": {"name": "s3", "key": "access"}, "secretKeySecret": {"name": "s3", "key": "secret"}}))}});
    kubernetes.put("configmaps/artifact-repositories", map);
    let node = start().node(&step).await;
    assert!(key(&node).starts_with("of-map/wf/wf-word-count-"), "{node}");
    // Where neither may be read, there is no repository; the log says which, and what follows.
    kubernetes.forbid("configmaps/artifact-repositories");
    let executor = start();
    assert!(message(&executor.node(&step).await).contains("no artifact repository"));
    for said in [
        "the Workflow's own artifact repository is not used",
        "no artifact repository is known from there",
    ] {
        eventually(said, async || executor.log().contains(said)).await;
    }
    kubernetes.allow("configmaps/artifact-repositories");
    // Which of several, before the controller has written it down.
    kubernetes.allow("workflows/wf");
    let reference =
        |key: &str| json!({"spec": {"artifactRepositoryRef": {"configMap": "more", "key": key}}});
    let bucket = |prefix: &str| {
        json!({"s3": {"endpoint": s3.endpoint, "bucket": "artifacts", "insecure": true, "keyPrefix": prefix,
        "accessKeySecret": {"name": "s3", "key": "access"}, "secretKeySecret": {"name": "s3", "key": "secret"}}})
    };
    kubernetes.put(
        "configmaps/more",
        json!({"data": {"b": bucket("of-ref").to_string()}}),
    );
    kubernetes.put("workflows/wf", reference("b"));
    let node = start().node(&step).await;
    assert!(key(&node).starts_with("of-ref/wf/wf-word-count-"), "{node}");
    kubernetes.put("workflows/wf", reference("c"));
    let node = start().node(&step).await;
    assert!(
        message(&node).contains("names ConfigMap `more` and key `c`, and neither is found"),
        "{node}"
    );
    // Nobody says it in this namespace: the controller's own is left, where the operator says which that is.
    kubernetes.put("workflows/wf", json!({}));
    kubernetes.put("configmaps/artifact-repositories", json!({}));
    let node = start().node(&step).await;
    assert!(message(&node).contains("no artifact repository"), "{node}");
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["artifacts"] = json!({"controllerNamespace": "argo-system"});
    for data in [
        json!({"artifactRepository": bucket("of-controller").to_string()}),
        json!({"config": json!({"artifactRepository": bucket("of-controller"), "parallelism": 4}).to_string()}),
    ] {
        kubernetes.put_elsewhere(
            "argo-system",
            "configmaps/workflow-controller-configmap",
            json!({"data": data}),
        );
        let options = Options {
            config: Some(config.to_string()),
            flags: flags.clone(),
            ..Options::default()
        };
        let node = Executor::start_with(options).node(&step).await;
        assert!(
            key(&node).starts_with("of-controller/wf/wf-word-count-"),
            "{node}"
        );
    }
    kubernetes.forbid("secrets/s3");
    kubernetes.put("workflows/wf", reference("b"));
    let node = start().node(&step).await;
    assert_eq!(node["phase"], "Error", "{node}");
    assert!(
        message(&node).contains("the service account needs the verb `get`"),
        "{node}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_locations_and_what_servers_refuse() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    s3.put("in/text", "x");
    let mut there = s3.bucket();
    there["key"] = json!("mine/result.tgz");
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "in/text"}}),
            &json!({"s3": there}),
        ))
        .await;
    assert_eq!(
        node["outputs"]["artifacts"][0]["s3"], there,
        "others find it by the same: {node}"
    );
    assert_eq!(from_tar(&s3.object("mine/result.tgz"), "copy"), "x");
    let node = executor
        .node(&copy(&json!({"s3": {"key": "none"}}), &json!({})))
        .await;
    assert_eq!(node["phase"], "Error", "{node}");
    let said = format!(
        "input artifact `text` (key `none` in bucket `artifacts` at `{}`): there is no object `none`",
        s3.endpoint
    );
    assert!(message(&node).contains(&said), "{node}");
    let node = executor
        .node(&copy(
            &json!({"s3": {"key": "none"}, "optional": true}),
            &json!({}),
        ))
        .await;
    assert_eq!(
        node["phase"], "Failed",
        "it is not there, and the module wants it: {node}"
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
        ("NoSuchBucket", 404, "the bucket does not exist: make it"),
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
async fn directories_are_prefixes_or_archives() {
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
        message(&node).contains("an archive was expected, and the key is a directory"),
        "{node}"
    );
}

/// `archiveLogs` of the repository, or of the template: what is printed is kept, however the module ends.
#[tokio::test(flavor = "multi_thread")]
async fn logs_are_an_artifact_too() {
    let s3 = S3::start().await;
    let mut failing = copy(&json!({"raw": {"data": "x"}}), &json!({"optional": true}));
    failing["plugin"]["wasm"]["args"] = json!(["/none", "/out/copy"]);
    for (executor, location) in [
        (
            with(&json!({"archiveLogs": true, "s3": s3.bucket()})),
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

/// An archive of links through links, as one of several inputs, and what the host writes afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_outside_by_way_of_inputs() {
    let (s3, home) = (S3::start().await, tempfile::tempdir().unwrap());
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
    let made = Command::new("sh")
        .args(["-c", &script])
        .current_dir(home.path().join("a"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
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

/// Sources in one place and what is built of them below it; one input inside another; an optional one that is nowhere beside an output.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_outputs_lie_within_each_other() {
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
        "the inner one is over the outer one's: {node}"
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

/// Every object of a step has a place of its own; a connection that a log opened serves later steps.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_step_is_over_anything_else_of_it() {
    let s3 = S3::start().await;
    let executor = with(&json!({"archiveLogs": true, "s3": s3.bucket()}));
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
        "it waited for a connection that stands still: {node}"
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
        message(&node).contains("another output of this template goes to the same place"),
        "{node}"
    );
    let elsewhere =
        json!({"s3": {"endpoint": s3.endpoint, "bucket": "others", "insecure": true, "key": "k"}});
    let node = executor.node(&copy(&elsewhere, &json!({}))).await;
    assert!(
        message(&node)
            .contains("the executor's own credentials are for workflows' own repositories"),
        "{node}"
    );
}

/// `run` with Argo's own repository in a file: what is not given with `-a` comes from there, and outputs go there.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_uses_a_repository_too() {
    let (s3, cli) = (S3::start().await, crate::cli::Cli::new());
    s3.put("in/text", "one two");
    std::fs::write(
        cli.at("repository.yaml"),
        json!({"s3": s3.bucket()}).to_string(),
    )
    .unwrap();
    let template = json!({
        "name": "t",
        "inputs": {"artifacts": [{"name": "text", "path": "/in/text", "s3": {"key": "in/text"}, "mode": 0o444}]},
        "outputs": {"artifacts": [{"name": "copy", "path": "/out/copy"}]},
        "plugin": {"wasm": {"module": "a/b:1", "args": ["/in/text", "/out/copy"]}},
    });
    std::fs::write(cli.at("t.yaml"), template.to_string()).unwrap();
    let module = wasm_workflow_integration::guests::guest("word-count");
    let run = |more: &[&str]| {
        let arguments = [
            &["run", "--template", "t.yaml", module.to_str().unwrap()],
            more,
        ]
        .concat();
        tokio::task::block_in_place(|| {
            cli.command(&arguments)
                .envs(S3::environment())
                .output()
                .unwrap()
        })
    };
    let output = run(&["--artifact-repository", "repository.yaml"]);
    let said = crate::cli::stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let stored = s3
        .keys()
        .into_iter()
        .find(|key| key.ends_with("/copy.tgz"))
        .unwrap();
    assert!(
        stored.starts_with("run/run-")
            && said.contains(&format!("artifact copy -> s3://artifacts/{stored}")),
        "{said}"
    );
    assert_eq!(from_tar(&s3.object(&stored), "copy"), "one two");
    std::fs::write(cli.at("mine"), "a b c d").unwrap();
    let output = run(&[
        "--artifact-repository",
        "repository.yaml",
        "-a",
        "text=mine",
    ]);
    assert_eq!(
        crate::cli::stdout(&output),
        "4\n",
        "{}",
        crate::cli::stderr(&output)
    );
    for (repository, expected) in [
        ("s3: {endpoint: h}", "needs `endpoint` and `bucket`"),
        (
            "gcs: {bucket: b}",
            "use `s3` with the endpoint storage.googleapis.com",
        ),
        ("{}", "it names no place"),
        ("s3: {endpont: h}", "did you mean `endpoint`?"),
    ] {
        std::fs::write(cli.at("repository.yaml"), repository).unwrap();
        let output = run(&["--artifact-repository", "repository.yaml"]);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{}",
            crate::cli::stderr(&output)
        );
        assert!(
            crate::cli::stderr(&output).contains(expected),
            "{}",
            crate::cli::stderr(&output)
        );
    }
}
