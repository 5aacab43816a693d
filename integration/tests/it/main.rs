//! Integration tests. Each module tests one aspect of the product. They are one binary, because
//! linking several takes much longer.
#![allow(missing_docs, reason = "the name of a test says what it tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an unexpected value fails the test"
)]
#![allow(
    clippy::doc_markdown,
    clippy::semicolon_if_nothing_returned,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "tables of cases"
)]

mod agent;
mod allocator;
mod argo_results;
mod artifact_forms;
mod bad_input;
mod bindle;
mod chaos;
mod cli;
mod cluster;
mod code_directory;
mod compiling;
mod credentials;
mod docker_configs;
mod hostile;
mod hostile_registry;
mod http_artifacts;
mod http_modules;
mod layouts;
mod logs;
mod modules;
mod outputs;
mod packages;
mod plugin;
mod programs;
mod proxies;
mod push;
mod registry_protocol;
mod s3;
mod schemas;
mod serve;
mod signatures;
mod sources;
mod store;
mod strangers;
mod three_ways;
mod tidy;
mod tls;
mod trusted_certificates;
mod wasmer;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};

/// Starts an executor that allows the files in `directory` as modules.
fn start_in(directory: &Path) -> Executor {
    Executor::start_with(Options {
        config: Some(json!({"sources": {"fileRoot": directory}}).to_string()),
        ..Options::default()
    })
}

/// Starts an executor like [`start_in`], in a container.
fn start_in_container(directory: &Path) -> Executor {
    Executor::start_with(Options {
        config: Some(json!({"sources": {"fileRoot": directory}}).to_string()),
        ..Options::in_container()
    })
}

/// Template that runs the module in a file.
fn template_of(path: &Path) -> Value {
    template_of_module(json!(format!("file://{}", path.display())))
}

/// Template that runs the module of a reference.
fn template_of_module(module: Value) -> Value {
    json!({"name": "t", "plugin": {"wasm": {"module": module}}})
}

/// Starts an executor that uses plain HTTP for `host`.
fn insecure(host: &str) -> Executor {
    Executor::start_with(Options {
        flags: vec!["--insecure-registry".to_owned(), host.to_owned()],
        ..Options::default()
    })
}

/// Compiles WebAssembly text to a file, and returns the path of the file.
fn write_wat(directory: &Path, name: &str, wat: &str) -> PathBuf {
    let module = wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}"));
    let path = directory.join(format!("{name}.wasm"));
    std::fs::write(&path, module).expect("a file");
    path
}

/// Compiles WebAssembly text to a file, and returns a template that runs the file.
fn template_of_wat(directory: &Path, name: &str, wat: &str) -> Value {
    template_of(&write_wat(directory, name, wat))
}

/// Gzipped tar archive with one file.
fn packed(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    builder
        .append_data(&mut header, path, bytes)
        .expect("an archive");
    builder
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .expect("an archive")
}

/// Message of a node.
fn message(node: &Value) -> &str {
    node["message"].as_str().unwrap_or_default()
}

/// Waits until the executor has removed the directories of its steps. It removes them after it has
/// sent the reply.
async fn wait_until_no_step_directory_is_left(executor: &Executor) {
    let scratch = executor.directory().join("scratch");
    let process = std::fs::read_dir(&scratch)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir());
    let process = process.expect("the executor's own directory");
    let empty = async || std::fs::read_dir(&process).is_ok_and(|entries| entries.count() == 1);
    wasm_workflow_integration::eventually("removing the steps' directories", empty).await;
}
