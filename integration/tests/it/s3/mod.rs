//! Artifacts in S3, as container steps store and read them.

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
