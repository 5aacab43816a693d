//! Finds all templates of a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

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
    /// variables stay.
    pub(in crate::cli) fn with_known_values(&self) -> Value {
        let mut template = self.template.clone();
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
