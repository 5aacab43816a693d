//! The artifact repository of a Workflow, of its namespace, of the controller, and of the command
//! `run`.

use serde_json::json;
use wasm_workflow_integration::eventually;
use wasm_workflow_integration::executor::Executor;
use wasm_workflow_integration::kubernetes::Kubernetes;
use wasm_workflow_integration::s3::{ACCESS_KEY, S3, SECRET_KEY};

use super::{copy, from_tar, key};
use crate::message;

/// The executor finds the artifact repository like Argo 4. The keys are in Secrets of the
/// namespace. The sources of the repository, in order:
///
/// 1. the status of the Workflow;
/// 2. the ConfigMap that the Workflow names, or else the default ConfigMap of the namespace;
/// 3. the ConfigMap of the controller, if the operator names its namespace.
#[tokio::test(flavor = "multi_thread")]
async fn the_repository_of_the_workflow_is_used_with_its_secrets() {
    let s3 = S3::start().await;
    let kubernetes = Kubernetes::start().await;
    let home = tempfile::tempdir().unwrap();
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
    // As Argo reads it: null is absence, and a field of a later version is ignored.
    let status = json!({"artifactRepositoryRef": {"default": true, "artifactRepository":
        {"archiveLogs": true, "gcs": null, "ofALaterArgo": 1, "s3": bucket}}});
    kubernetes.put(
        "workflows/wf",
        json!({"spec": {"arguments": {"parameters": [{"name": "env", "value": "prod"}, {"name": "count", "value": 3}]}}, "status": status}),
    );
    let guests = wasm_workflow_integration::guests::directory();
    let config = json!({"sources": {"fileRoot": guests, "insecure": [s3.endpoint]}});
    let start = || Executor::with_config(&config, kubernetes.flags(home.path()));
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
        "the output has only a key: {node}"
    );
    // The executor may not read the Workflow: the default ConfigMap is used.
    kubernetes.forbid("workflows/wf");
    let map = json!({"metadata": {"annotations": {"workflows.argoproj.io/default-artifact-repository": "main"}},
        "data": {"main": format!("s3: {}", json!({"endpoint": s3.endpoint, "bucket": "artifacts", "insecure": true, "keyPrefix": "of-map",
            "region": null, "keyFormat": null, "encryptionOptions": null, "KEY": "", "ofALaterArgo": {"x": 1}, "accessKeySecret": {"name": "s3", "key": "access"}, "secretKeySecret": {"name": "s3", "key": "secret"}}))}});
    kubernetes.put("configmaps/artifact-repositories", map);
    let node = start().node(&step).await;
    assert!(key(&node).starts_with("of-map/wf/wf-word-count-"), "{node}");
    // The executor may read neither: there is no repository, and the log explains why.
    kubernetes.forbid("configmaps/artifact-repositories");
    let executor = start();
    assert!(message(&executor.node(&step).await).contains("no artifact repository"));
    for warning in [
        "the Workflow's own artifact repository is not used",
        "artifact repositories of this ConfigMap are not used",
    ] {
        eventually(warning, async || executor.log().contains(warning)).await;
    }
    kubernetes.allow("configmaps/artifact-repositories");
    // The Workflow names a ConfigMap and a key, and its status has no repository yet.
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
        message(&node)
            .contains("names key `c` of ConfigMap `more`, which does not exist or may not be read"),
        "{node}"
    );
    // Nothing in this namespace names a repository: the repository of the controller is used, if
    // the operator names the controller's namespace.
    kubernetes.put("workflows/wf", json!({}));
    kubernetes.put("configmaps/artifact-repositories", json!({}));
    let node = start().node(&step).await;
    assert!(message(&node).contains("no artifact repository"), "{node}");
    let mut config = config.clone();
    config["artifacts"] = json!({"controllerNamespace": "argo-system"});
    for data in [
        json!({"artifactRepository": bucket("of-controller").to_string()}),
        json!({"config": json!({"artifactRepository": bucket("of-controller"), "parallelism": 4}).to_string()}),
    ] {
        kubernetes.put_in(
            "argo-system",
            "configmaps/workflow-controller-configmap",
            json!({"data": data}),
        );
        let executor = Executor::with_config(&config, kubernetes.flags(home.path()));
        let node = executor.node(&step).await;
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

/// The file of `--artifact-repository` has Argo's form. Inputs without `-a` are read from the
/// repository, and outputs are stored there.
#[tokio::test(flavor = "multi_thread")]
async fn run_uses_an_artifact_repository_from_a_file() {
    let s3 = S3::start().await;
    let cli = crate::cli::Cli::new();
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
    let stderr = crate::cli::stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let stored = s3
        .keys()
        .into_iter()
        .find(|key| key.ends_with("/copy.tgz"))
        .unwrap();
    assert!(
        stored.starts_with("run/run-")
            && stderr.contains(&format!("artifact copy -> s3://artifacts/{stored}")),
        "{stderr}"
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
        ("{}", "it names no location"),
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
