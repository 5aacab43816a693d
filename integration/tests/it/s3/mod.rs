//! Artifacts in S3, as container steps store and read them.

mod archives;
mod directories;
mod faults;
mod objects;
mod paths;
mod ranges;
mod repositories;
mod requests;
mod tls;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::s3::S3;

/// Starts an executor whose artifact repository is the bucket of this server.
pub(crate) fn executor(s3: &S3) -> Executor {
    executor_with(&json!({"s3": s3.bucket()}))
}

/// Starts an executor with this artifact repository.
fn executor_with(repository: &Value) -> Executor {
    let guests = wasm_workflow_integration::guests::directory();
    let config = json!({"artifacts": {"repository": repository}, "sources": {"fileRoot": guests}});
    Executor::start_with(Options {
        config: Some(config.to_string()),
        env: S3::environment(),
        ..Options::default()
    })
}

/// Template of `word-count /in/text /out/copy`. The fields of `input` and `output` are added to its
/// input artifact and its output artifact.
pub(crate) fn copy(input: &Value, output: &Value) -> Value {
    let mut template = template("word-count");
    let merged = |mut artifact: Value, fields: &Value| {
        artifact
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        artifact
    };
    template["inputs"] =
        json!({"artifacts": [merged(json!({"name": "text", "path": "/in/text"}), input)]});
    template["outputs"] =
        json!({"artifacts": [merged(json!({"name": "copy", "path": "/out/copy"}), output)]});
    template["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
    template
}

/// Key of the first output artifact of a node.
pub(crate) fn key(node: &Value) -> &str {
    node["outputs"]["artifacts"][0]["s3"]["key"]
        .as_str()
        .unwrap_or_else(|| panic!("{node}"))
}

/// Content of a file in an archive, read with GNU tar.
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
