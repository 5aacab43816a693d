//! The committed manifests, and the command `manifest`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wasm_workflow_executor::config::Config;
use wasm_workflow_executor::text::yaml;
use wasm_workflow_integration::executor::program;

use super::{documents, env};

/// Documents that the command `manifest` prints, or its error message.
fn manifest(flags: &[&str]) -> Result<Vec<Value>, String> {
    let output = Command::new(program())
        .arg("manifest")
        .args(flags)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(yaml::documents(&String::from_utf8(output.stdout).unwrap()).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// A plugin's ConfigMap in a form that can be compared: the container is parsed, and the namespace
/// and the time of creation are removed.
fn comparable(mut map: Value) -> Value {
    let container = yaml::documents(map["data"]["sidecar.container"].as_str().unwrap())
        .unwrap()
        .swap_remove(0);
    map["data"]["sidecar.container"] = container;
    let metadata = map["metadata"].as_object_mut().unwrap();
    metadata.remove("creationTimestamp");
    metadata.remove("namespace");
    map
}

/// The ConfigMap that `argo executor-plugin build` makes from a manifest
/// (`workflow/util/plugin/configmap.go`).
fn built(manifest: &Value) -> Value {
    let sidecar = &manifest["spec"]["sidecar"];
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": format!("{}-executor-plugin", manifest["metadata"]["name"].as_str().unwrap()),
            "annotations": manifest["metadata"]["annotations"],
            "labels": {"workflows.argoproj.io/configmap-type": "ExecutorPlugin"},
        },
        "data": {
            "sidecar.automountServiceAccountToken": sidecar["automountServiceAccountToken"].to_string(),
            "sidecar.container": sidecar["container"],
        },
    })
}

#[test]
fn committed_manifests_match_their_builds() {
    for (directory, flags) in [
        ("", vec![]),
        ("with-api-access", vec!["--api-access"]),
        ("read-only-root", vec!["--read-only-root"]),
    ] {
        let directory = Path::new(directory);
        let map = comparable(
            documents(directory.join("wasm-executor-plugin-configmap.yaml")).swap_remove(0),
        );
        assert_eq!(
            map,
            built(&documents(directory.join("plugin.yaml"))[0]),
            "argo executor-plugin build plugin/{directory:?}"
        );
        let mut printed = manifest(&flags).unwrap();
        assert_eq!(
            comparable(printed.pop().unwrap()),
            map,
            "manifest {flags:?}"
        );
        let rbac = if flags == ["--api-access"] {
            documents("with-api-access/rbac.yaml")
        } else {
            Vec::new()
        };
        assert_eq!(printed, rbac, "manifest {flags:?}");
        let container = &map["data"]["sidecar.container"];
        let env: BTreeMap<&str, &str> = env(container).into_iter().collect();
        Config::from_text(env["WASM_WORKFLOW_CONFIG"], "the manifest").unwrap();
    }
    assert_eq!(
        documents("base/wasm-executor-plugin-configmap.yaml"),
        documents("wasm-executor-plugin-configmap.yaml")
    );
}

#[test]
fn manifest_flags_fill_in_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, "limits: {memory: 1Gi}\n").unwrap();
    let flags = [
        "--namespace",
        "wf",
        "--image",
        "r.example.com/x:2",
        "--api-access",
        "--secret",
        "a",
        "--secret",
        "b",
    ];
    let printed = manifest(&[&flags[..], &["--config", file.to_str().unwrap()]].concat()).unwrap();
    let kinds: Vec<&str> = printed
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "ServiceAccount",
            "Secret",
            "Role",
            "RoleBinding",
            "ConfigMap"
        ]
    );
    assert!(
        printed
            .iter()
            .all(|object| object["metadata"]["namespace"] == "wf"),
        "{printed:?}"
    );
    assert_eq!(printed[3]["subjects"][0]["namespace"], "wf");
    assert_eq!(printed[2]["rules"][0]["resourceNames"], json!(["a", "b"]));
    let container = comparable(printed[4].clone())["data"]["sidecar.container"].clone();
    assert_eq!(container["image"], "r.example.com/x:2");
    assert_eq!(
        env(&container),
        [("WASM_WORKFLOW_CONFIG", "limits: {memory: 1Gi}\n")]
    );
    let repository = "artifacts: {repository: {s3: {endpoint: h, bucket: b, accessKeySecret: {name: keys, key: a}, secretKeySecret: {name: keys, key: s}}}}\n";
    let credentials = "sources: {fileRoot: /modules, credentials: [{host: ghcr.io, username: u, passwordFrom: {env: PASSWORD}}]}\n";
    fs::write(&file, format!("{repository}{credentials}")).unwrap();
    let with = |flags: &[&str]| {
        Command::new(program())
            .args(["manifest", "--config"])
            .arg(&file)
            .args(flags)
            .output()
            .unwrap()
    };
    let warnings = String::from_utf8(with(&[]).stderr).unwrap();
    for expected in [
        "add --env PASSWORD=SECRET/KEY",
        "`/modules`, but a plugin cannot mount files",
        "Secrets keys, which",
        "no image of this",
    ] {
        assert!(warnings.contains(expected), "{expected}: {warnings}");
    }
    let output = with(&[
        "--api-access",
        "--env",
        "PASSWORD=ghcr/password",
        "--image",
        "x:1",
    ]);
    let printed = yaml::documents(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(
        !warnings.contains("PASSWORD") && !warnings.contains("Secrets keys"),
        "{warnings}"
    );
    assert_eq!(
        printed[2]["rules"][0]["resourceNames"],
        json!(["regcred", "keys"])
    );
    let container = comparable(printed[4].clone())["data"]["sidecar.container"].clone();
    assert_eq!(
        container["env"][1]["valueFrom"],
        json!({"secretKeyRef": {"name": "ghcr", "key": "password"}})
    );
    for (flag, value) in [
        ("--image", "Foo Bar"),
        ("--image", ""),
        ("--image", "r/UPPER:1"),
        ("--namespace", "a.b"),
        ("--env", "A=b"),
        ("--env", "A B=s/k"),
    ] {
        assert!(
            manifest(&[flag, value]).unwrap_err().contains("it must"),
            "{flag} {value}"
        );
    }
    fs::write(&file, "limits: {memroy: 1Gi}\n").unwrap();
    assert!(
        manifest(&["--config", file.to_str().unwrap()])
            .unwrap_err()
            .contains("did you mean `memory`?")
    );
    assert!(
        manifest(&["--namespace", "A b"])
            .unwrap_err()
            .contains("must be the name of an object")
    );
    assert!(
        manifest(&["--secret", "a"])
            .unwrap_err()
            .contains("--api-access")
    );
}
