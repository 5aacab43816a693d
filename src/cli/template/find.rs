//! Finds all templates of a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::load::{read, spec, templates, workflow};
use super::variables::variables;
use crate::cli::Failure;
use crate::step::Workflow;
use crate::text::tags;

/// A template of any kind, as the file has it.
#[derive(Debug)]
pub(in crate::cli) struct FoundTemplate {
    pub(in crate::cli) template: Value,
    /// The workflow of the template.
    pub(in crate::cli) workflow: Workflow,
    /// `arguments.parameters` of the workflow, or null.
    arguments: Value,
}

impl FoundTemplate {
    /// Name of the template; empty if it has none.
    pub(in crate::cli) fn name(&self) -> &str {
        self.template["name"].as_str().unwrap_or_default()
    }

    /// Whether the template is for this plugin.
    pub(in crate::cli) fn is_wasm(&self) -> bool {
        self.template.pointer("/plugin/wasm").is_some()
    }

    /// The template with values in place of the variables that have a value in the file. The other
    /// variables stay. An input without a value gets one: the workflow supplies the input where the
    /// template is used.
    pub(in crate::cli) fn with_known_values(&self) -> Value {
        let mut template = self.template.clone();
        supply_inputs(&mut template);
        if let Some(inputs) = template.pointer_mut("/inputs/parameters") {
            substitute(
                inputs,
                &variables(&Value::Null, &self.arguments, &self.workflow),
            );
        }
        let known = variables(&template, &self.arguments, &self.workflow);
        substitute(&mut template, &known);
        template
    }
}

/// All templates of a file, of any kind. A file without templates is not an error.
pub(in crate::cli) fn find_all(file: &Path) -> Result<Vec<FoundTemplate>, Failure> {
    let documents = read(file)?;
    let found = documents.iter().flat_map(|document| {
        let arguments = spec(document)
            .and_then(|spec| spec.pointer("/arguments/parameters"))
            .cloned()
            .unwrap_or_default();
        templates(document)
            .iter()
            .filter(|template| template.is_object())
            .map(move |template| FoundTemplate {
                template: template.clone(),
                workflow: workflow(document),
                arguments: arguments.clone(),
            })
    });
    Ok(found.collect())
}

/// Gives each input without a value a value: to a parameter its own variable, and to an artifact
/// empty content.
fn supply_inputs(template: &mut Value) {
    for parameter in inputs(template, "parameters") {
        let has_value = ["value", "default", "valueFrom"]
            .iter()
            .any(|key| parameter.contains_key(*key));
        if let (false, Some(Value::String(name))) = (has_value, parameter.get("name")) {
            let variable = format!("{{{{inputs.parameters.{name}}}}}");
            parameter.insert("value".to_owned(), Value::String(variable));
        }
    }
    for artifact in inputs(template, "artifacts") {
        let has_location = artifact
            .iter()
            .any(|(key, value)| value.is_object() && key != "archive");
        if !has_location {
            artifact.insert("raw".to_owned(), json!({"data": ""}));
        }
    }
}

/// The items of a list under `inputs`.
fn inputs<'a>(
    template: &'a mut Value,
    list: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = template
        .get_mut("inputs")
        .and_then(|inputs| inputs.get_mut(list));
    let items = list.and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut)
}

fn substitute(value: &mut Value, known: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            let value_of = |name: &str| {
                let kept = || format!("{{{{{name}}}}}");
                Some(known.get(name).cloned().unwrap_or_else(kept))
            };
            // An expression stays as it is.
            if let Ok(replaced) = tags::replace(text, value_of) {
                *text = replaced;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| substitute(item, known)),
        Value::Object(map) => map.values_mut().for_each(|item| substitute(item, known)),
        _ => {}
    }
}
