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
pub(super) fn manifest(flags: &[&str]) -> Result<Vec<Value>, String> {
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
        let mut accounts = documents("workflow-account/rbac.yaml");
        if flags == ["--api-access"] {
            accounts.extend(documents("with-api-access/rbac.yaml"));
        }
        assert_eq!(printed, accounts, "manifest {flags:?}");
        let container = &map["data"]["sidecar.container"];
        let env: BTreeMap<&str, &str> = env(container).into_iter().collect();
        Config::from_text(env["WASM_WORKFLOW_CONFIG"], "the manifest").unwrap();
    }
    assert_eq!(
        documents("base/wasm-executor-plugin-configmap.yaml"),
        documents("wasm-executor-plugin-configmap.yaml")
    );
}

/// The container in the ConfigMap, which is the last document.
fn container(printed: &[Value]) -> Value {
    let map = comparable(printed.last().unwrap().clone());
    map["data"]["sidecar.container"].clone()
}

/// The names of the Secrets that the executor may read.
fn readable_secrets(printed: &[Value]) -> &Value {
    let role = printed.iter().find(|object| {
        object["kind"] == "Role" && object["metadata"]["name"] == "wasm-executor-plugin"
    });
    &role.unwrap()["rules"][0]["resourceNames"]
}

/// Without `--config`, the number of steps and the memory of each step fit into the container.
#[test]
fn the_limits_of_the_container_decide_the_configuration() {
    for (flags, cpu, memory, steps, step_memory) in [
        ("", "2", "2Gi", 16, "80Mi"),
        ("--cpu 4 --memory 16Gi", "4", "16Gi", 32, "320Mi"),
        ("--cpu 500m", "500m", "2Gi", 8, "160Mi"),
        ("--cpu 2.5 --memory 512Mi", "2.5", "512Mi", 16, "20Mi"),
        ("--cpu 100", "100", "2Gi", 64, "20Mi"),
        ("--read-only-root --memory 4Gi", "2", "4Gi", 16, "160Mi"),
    ] {
        let arguments: Vec<&str> = flags.split_whitespace().collect();
        let container = container(&manifest(&arguments).unwrap());
        let configuration =
            format!("capacity: {{steps: {steps}}}\nlimits: {{memory: {step_memory}}}");
        let limits = &container["resources"]["limits"];
        assert_eq!(
            (&limits["cpu"], &limits["memory"]),
            (&json!(cpu), &json!(memory)),
            "{flags}"
        );
        assert_eq!(
            env(&container),
            [("WASM_WORKFLOW_CONFIG", configuration.as_str())],
            "{flags}"
        );
        Config::from_text(&configuration, "the manifest").unwrap();
    }
    let printed = manifest(&["--ephemeral-storage", "10Gi"]).unwrap();
    assert_eq!(
        container(&printed)["resources"]["limits"]["ephemeral-storage"],
        "10Gi"
    );
    for (flags, expected) in [
        (vec!["--cpu", "0"], "a number of cores"),
        (vec!["--cpu", "20m"], "at least 50m"),
        (vec!["--cpu", "-2"], "a number of cores"),
        (vec!["--cpu", "two"], "a number of cores"),
        (vec!["--cpu", "1.00005"], "a number of cores"),
        (vec!["--cpu", "inf"], "a number of cores"),
        (vec!["--memory", "2 GB"], "write it like"),
        (vec!["--memory", "2"], "at least 256Mi"),
        (vec!["--ephemeral-storage", "255Mi"], "at least 256Mi"),
        (
            vec!["--ephemeral-storage", "1Gi", "--read-only-root"],
            "cannot be used with",
        ),
    ] {
        let flags: Vec<String> = match flags[..] {
            // A value that starts with a hyphen belongs to its flag only in this form.
            [flag, value] => vec![format!("{flag}={value}")],
            _ => flags.iter().map(|&flag| flag.to_owned()).collect(),
        };
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let message = manifest(&flags).unwrap_err();
        assert!(message.contains(expected), "{flags:?}: {message}");
    }
}

/// With `--config`, a warning says how many steps fit into the memory.
#[test]
fn a_configuration_that_does_not_fit_gets_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    for (text, flags, expected) in [
        ("agent: {wait: 1s}\n", vec![], "only 2 of 16 steps fit"),
        ("limits: {memory: 80Mi}\n", vec![], ""),
        (
            "limits: {memory: 80Mi}\n",
            vec!["--cpu", "4"],
            "only 16 of 32 steps fit",
        ),
        ("capacity: {steps: 2}\n", vec![], ""),
        (
            "capacity: {memory: 512Mi}\n",
            vec![],
            "only 1 of 16 steps fit into the memory for modules at once (512Mi, and 512Mi for each \
             step): lower `limits.memory`, or raise `capacity.memory`",
        ),
        (
            "agent: {wait: 1s}\n",
            vec!["--cpu", "1"],
            "lower `limits.memory`, or raise --memory",
        ),
        ("", vec!["--memory", "16Gi"], ""),
        (
            "capacity: {steps: 1, memory: 3Gi}\n",
            vec![],
            "`capacity.memory` (3Gi), `capacity.compileMemory` (512Mi) and the executor itself \
             (256Mi) need more than the memory of the container (2Gi): lower `capacity`, or raise \
             --memory",
        ),
        (
            "capacity: {steps: 1, memory: 3Gi, compileMemory: 512Mi}\n",
            vec!["--memory", "3Gi"],
            "need more than the memory of the container (3Gi)",
        ),
        (
            "capacity: {steps: 1, memory: 3Gi, compileMemory: 768Mi}\n",
            vec!["--memory", "4Gi"],
            "",
        ),
        (
            "capacity: {steps: 1, memory: 1Gi, compileMemory: 1Gi}\n",
            vec![],
            "`capacity.compileMemory` (1Gi)",
        ),
        // The default capacity fits a small container.
        (
            "capacity: {steps: 1}\nlimits: {memory: 64Mi}\n",
            vec!["--memory", "256Mi"],
            "",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let output = Command::new(program())
            .args(["manifest", "--image", "x:1", "--config"])
            .arg(&file)
            .args(&flags)
            .output()
            .unwrap();
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{warnings}");
        match expected {
            "" => assert_eq!(warnings, "", "{text} {flags:?}"),
            expected => assert!(warnings.contains(expected), "{text} {flags:?}: {warnings}"),
        }
    }
}

/// A pipe can be read only once: `--config <(…)` in bash, and `--config /dev/stdin`.
#[test]
fn the_configuration_may_be_a_pipe() {
    let text = "capacity: {steps: 4}\nlimits: {memory: 64Mi}\n";
    let output = Command::new("bash")
        .args(["-c", "\"$0\" manifest --config <(printf %s \"$1\")"])
        .arg(program())
        .arg(text)
        .output()
        .unwrap();
    let printed = yaml::documents(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(env(&container(&printed)), [("WASM_WORKFLOW_CONFIG", text)]);
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
    assert!(
        printed
            .iter()
            .all(|object| object["metadata"]["namespace"] == "wf"),
        "{printed:?}"
    );
    assert_eq!(readable_secrets(&printed), &json!(["a", "b"]));
    let filled = container(&printed);
    assert_eq!(filled["image"], "r.example.com/x:2");
    assert_eq!(
        env(&filled),
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
        "`/modules`, but the manifest mounts no files",
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
    assert_eq!(readable_secrets(&printed), &json!(["regcred", "keys"]));
    assert_eq!(
        container(&printed)["env"][1]["valueFrom"],
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
