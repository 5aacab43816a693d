//! Files that an operator applies: the manifests, the output of `manifest`, the examples, and the
//! image. And the commands that the documentation tells the operator to run.

mod accounts;
mod cluster;
mod examples;
mod image;
mod image_script;
mod installing;
mod manifests;

use std::fs;
use std::path::Path;

use serde_json::Value;
use wasm_workflow_executor::text::yaml;
use wasm_workflow_integration::guests::repository;

/// Documents of a YAML file in `plugin/`.
fn documents(path: impl AsRef<Path>) -> Vec<Value> {
    let path = repository().join("plugin").join(path);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    yaml::documents(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names and values of the environment variables of a container.
fn env(container: &Value) -> Vec<(&str, &str)> {
    let env = container["env"].as_array().into_iter().flatten();
    env.map(|variable| {
        (
            variable["name"].as_str().unwrap(),
            variable["value"].as_str().unwrap(),
        )
    })
    .collect()
}
