//! Argo's variables, `{{…}}`, and their values outside a cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::Failure;
use crate::step::Workflow;
use crate::text::tags::{self, Unresolved};

/// The variables that have a value outside a cluster: parameters, paths of artifacts, and names of
/// the workflow and the node. `arguments` are the parameters of the workflow.
pub(super) fn variables(
    template: &Value,
    arguments: &Value,
    workflow: &Workflow,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("workflow.name".to_owned(), workflow.name.clone()),
        ("workflow.namespace".to_owned(), workflow.namespace.clone()),
        ("workflow.uid".to_owned(), workflow.uid.clone()),
        ("node.name".to_owned(), workflow.name.clone()),
        ("retries".to_owned(), "0".to_owned()),
    ]);
    let mut add = |list: Option<&Value>, key: &str, name: &dyn Fn(&str) -> String| {
        for item in list.and_then(Value::as_array).into_iter().flatten() {
            let value = item
                .get(key)
                .or_else(|| item.get("default"))
                .and_then(scalar);
            if let (Some(item_name), Some(value)) = (item["name"].as_str(), value) {
                variables.insert(name(item_name), value);
            }
        }
    };
    add(Some(arguments), "value", &|name| {
        format!("workflow.parameters.{name}")
    });
    add(template.pointer("/inputs/parameters"), "value", &|name| {
        format!("inputs.parameters.{name}")
    });
    add(template.pointer("/inputs/artifacts"), "path", &|name| {
        format!("inputs.artifacts.{name}.path")
    });
    add(template.pointer("/outputs/artifacts"), "path", &|name| {
        format!("outputs.artifacts.{name}.path")
    });
    for output in template
        .pointer("/outputs/parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let (Some(name), Some(path)) = (
            output["name"].as_str(),
            output.pointer("/valueFrom/path").and_then(scalar),
        ) {
            variables.insert(format!("outputs.parameters.{name}.path"), path);
        }
    }
    variables
}

/// The text of a scalar.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Replaces the variables in all texts and keys of a value. Tags that are not variables of Argo stay.
/// A variable of Argo without a value is an error.
pub(super) fn substitute(
    value: &mut Value,
    variables: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    match value {
        Value::String(text) => *text = replace(text, variables)?,
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| substitute(item, variables))?,
        Value::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                substitute(&mut item, variables)?;
                map.insert(replace(&key, variables)?, item);
            }
        }
        _ => {}
    }
    Ok(())
}

fn replace(text: &str, variables: &BTreeMap<String, String>) -> Result<String, Failure> {
    tags::replace(text, |name| variables.get(name).cloned()).map_err(
        |unresolved| match unresolved {
            Unresolved::Variable(name) => no_value(&name),
            Unresolved::Expression(expression) => {
                let message =
                    format!("the expression `{{{{={expression}}}}}` cannot be evaluated here");
                Failure::usage(message).with_hint(
                    "only Argo evaluates expressions; give the value with -p, \
                 and use it with `{{inputs.parameters.NAME}}`",
                )
            }
        },
    )
}

fn no_value(name: &str) -> Failure {
    let failure = Failure::usage(format!("the variable `{{{{{name}}}}}` has no value"));
    if let Some(parameter) = name.strip_prefix("inputs.parameters.") {
        return failure.with_hint(format!(
            "set it with -p {parameter}=VALUE; the template must declare it under `inputs.parameters`"
        ));
    }
    if let Some(parameter) = name.strip_prefix("workflow.parameters.") {
        return failure.with_hint(format!(
            "set it with -p {parameter}=VALUE, or with a `default` in the file"
        ));
    }
    failure.with_hint(
        "outside a cluster only parameters, paths of artifacts, and the names of the workflow \
         and the node have values",
    )
}
