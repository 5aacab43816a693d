//! Writes the command line into a template.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value, json};
use sources::reference::FileReference;

use super::flags::RunStep;
use crate::cli::{Failure, settings};

/// One of the two blocks of a template that declare artifacts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Inputs,
    Outputs,
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Outputs => "outputs",
        }
    }
}

/// A template for a module without a Workflow file.
pub(super) fn empty_template(parameters: &BTreeMap<String, String>) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({"name": "run", "inputs": {"parameters": parameters}, "plugin": {"wasm": {}}})
}

/// Refuses a template in which the artifacts are not lists, before they are edited.
pub(super) fn check_lists(template: &Value) -> Result<(), Failure> {
    for side in [Side::Inputs, Side::Outputs] {
        let list = template.pointer(&format!("/{}/artifacts", side.key()));
        if list.is_some_and(|list| !list.is_array() && !list.is_null()) {
            return Err(Failure::usage(format!(
                "`template.{}.artifacts`: expected a list",
                side.key()
            )));
        }
    }
    Ok(())
}

/// Names of the artifacts that the template declares on one side.
pub(super) fn artifact_names(template: &Value, side: Side) -> Vec<&str> {
    template
        .pointer(&format!("/{}/artifacts", side.key()))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|artifact| artifact["name"].as_str())
        .collect()
}

/// The list with this key, which is added if it is absent or null. `None` if the value is not a
/// list.
fn list_in<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let list = map.entry(key).or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut()
}

/// Declares an artifact with a path in the guest. If the template declares the artifact already,
/// the path replaces that of the declaration.
pub(super) fn declare_artifact(
    template: &mut Value,
    side: Side,
    name: &str,
    path: &str,
) -> Result<(), Failure> {
    let key = side.key();
    let malformed = || Failure::usage(format!("`template.{key}.artifacts`: expected a list"));
    let template = template.as_object_mut().ok_or_else(malformed)?;
    let block = template.entry(key).or_insert(Value::Null);
    if block.is_null() {
        *block = json!({});
    }
    let block = block.as_object_mut().ok_or_else(malformed)?;
    let list = list_in(block, "artifacts").ok_or_else(malformed)?;
    match list.iter_mut().find(|artifact| artifact["name"] == name) {
        Some(artifact) => artifact["path"] = path.into(),
        None => list.push(json!({"name": name, "path": path, "archive": {"none": {}}})),
    }
    Ok(())
}

/// Writes all flags into the template, except those of parameters and input artifacts.
pub(super) fn apply(flags: &RunStep, template: &mut Value) -> Result<(), Failure> {
    for output in &flags.outputs {
        declare_artifact(template, Side::Outputs, &output.name, &output.value)?;
    }
    let stdin = flags.stdin.as_deref().map(read_stdin).transpose()?;
    let Some(wasm) = template
        .pointer_mut("/plugin/wasm")
        .and_then(Value::as_object_mut)
    else {
        return Ok(());
    };
    if let Some(text) = &flags.reference {
        let reference = settings::reference(text)?;
        // Other references stay as they are written, because errors depend on the text.
        let written = match reference.as_kind::<FileReference>() {
            Some(_) => reference.to_string(),
            None => text.clone(),
        };
        wasm.insert("module".to_owned(), written.into());
    }
    if !flags.args.is_empty() {
        wasm.insert("args".to_owned(), json!(flags.args));
    }
    if let Some(stdin) = stdin {
        wasm.insert("stdin".to_owned(), stdin.into());
    }
    if !flags.env.is_empty() {
        let variables = flags
            .env
            .iter()
            .map(|variable| json!({"name": variable.name, "value": variable.value}));
        let list = list_in(wasm, "env").ok_or_else(|| {
            Failure::usage("`template.plugin.wasm.env`: expected a list")
                .with_hint("write it like `env: [{name: NAME, value: VALUE}]`")
        })?;
        list.retain(|own| flags.env.iter().all(|given| own["name"] != given.name));
        list.extend(variables);
    }
    Ok(())
}

/// Reads the standard input of the module: a file, or this program's own standard input for `-`.
fn read_stdin(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::usage(format!("--stdin: `{shown}` cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::usage(format!(
            "--stdin: `{shown}` is not UTF-8; pass binary input as an artifact"
        ))
    })
}
