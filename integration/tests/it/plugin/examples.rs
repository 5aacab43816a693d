//! The examples in `plugin/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifacts::Repository;
use serde_json::{Value, json};
use wasm_workflow_executor::argo::repository::DestinationLookup;
use wasm_workflow_executor::argo::{self, ArtifactContext, Conversion};
use wasm_workflow_executor::config::{Config, NamespaceRules};
use wasm_workflow_executor::step::{ArtifactDestination, Workflow};
use wasm_workflow_integration::executor::program;
use wasm_workflow_integration::guests::repository;

use super::documents;

/// All YAML files in a directory and its subdirectories, sorted.
fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| {
            if path.is_dir() {
                yaml_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

/// The value with the word `x` in place of each variable of Argo.
fn filled(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let mut filled = text.clone();
            while let Some((start, end)) = filled
                .find("{{")
                .and_then(|start| Some((start, start + filled[start..].find("}}")?)))
            {
                filled.replace_range(start..end + 2, "x");
            }
            filled.into()
        }
        Value::Array(items) => items.iter().map(filled).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), filled(value)))
            .collect(),
        other => other.clone(),
    }
}

/// The program accepts every template of every example. Templates of committed modules also run.
#[test]
fn plugin_examples_are_accepted_and_run() {
    let place = ArtifactDestination {
        repository: Repository::directory("/artifacts"),
        key: "wf".to_owned(),
        default: true,
        archive_logs: false,
    };
    let mut accepted = 0;
    let mut ran = 0;
    for file in yaml_files(&repository().join("plugin")) {
        for document in documents(&file) {
            assert!(
                document["kind"].is_string(),
                "{}: no object",
                file.display()
            );
            if !matches!(
                document["kind"].as_str(),
                Some("Workflow" | "WorkflowTemplate")
            ) {
                continue;
            }
            for template in document["spec"]["templates"].as_array().unwrap() {
                if template["plugin"]["wasm"].is_null() {
                    continue;
                }
                let mut given = filled(template);
                for parameter in given
                    .pointer_mut("/inputs/parameters")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    parameter["value"] = json!("x");
                }
                for artifact in given
                    .pointer_mut("/inputs/artifacts")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    // An artifact of another step has a key.
                    if !["raw", "http", "optional"]
                        .iter()
                        .any(|key| artifact.get(key).is_some())
                    {
                        artifact["s3"] = json!({"key": "from/another/step"});
                    }
                }
                let workflow = Workflow {
                    name: "wf".to_owned(),
                    namespace: "argo".to_owned(),
                    uid: String::new(),
                };
                let call = argo::from_template(workflow, &given)
                    .unwrap()
                    .expect("a template of this plugin");
                let artifacts = ArtifactContext {
                    destination: DestinationLookup::Known(place.clone()),
                    ..ArtifactContext::default()
                };
                let conversion = Conversion {
                    limits: NamespaceRules::new(&Config::default()).limits("default"),
                    artifacts,
                };
                call.into_step(&conversion)
                    .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                accepted += 1;
                ran += u32::from(run(&file, template));
            }
        }
    }
    assert!(
        accepted >= 18 && ran >= 11,
        "{accepted} templates are accepted, and {ran} of them ran"
    );
}

/// Runs a template with the command `run`, if it uses a committed module. Returns whether it ran.
fn run(file: &Path, template: &Value) -> bool {
    let module = template["plugin"]["wasm"]["module"]
        .as_str()
        .and_then(|module| module.strip_prefix("oci://ghcr.io/wasm-workflow-executor/"));
    let Some(module) = module.and_then(|module| module.strip_suffix(":0.1.0")) else {
        return false;
    };
    // Another step or a server would supply these artifacts.
    let artifacts = template["inputs"]["artifacts"]
        .as_array()
        .into_iter()
        .flatten();
    let missing =
        artifacts.filter(|artifact| artifact.get("raw").is_none() && artifact["optional"] != true);
    let supplied = missing.flat_map(|artifact| {
        [
            "-a".to_owned(),
            format!("{}=LICENSE.txt", artifact["name"].as_str().unwrap()),
        ]
    });
    let directory = tempfile::tempdir().unwrap();
    let at = format!("{}#{}", file.display(), template["name"].as_str().unwrap());
    let module = repository().join(format!("modules/prebuilt/{module}.wasm"));
    let output = Command::new(program())
        .args(["run", "--template", &at])
        .arg(module)
        .args(supplied)
        .current_dir(repository())
        .arg("--output-dir")
        .arg(directory.path())
        .env("XDG_CACHE_HOME", directory.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stderr.contains("Succeeded"),
        "{at}: {stderr}"
    );
    true
}
