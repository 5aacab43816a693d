//! The values of parameters that the user named with `-p`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cli::Failure;

/// Sets parameters that the user named: an input parameter of the template if there is one of that
/// name, or else a parameter of the workflow.
///
/// A parameter of the workflow need not be declared, if the template uses it.
pub(super) fn set_parameters(
    template: &mut Value,
    arguments: &mut Value,
    parameters: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let text = template.to_string();
    let uses: BTreeSet<&str> = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}"))
        .map(|(name, _)| name.trim())
        .collect();
    for (name, value) in parameters {
        let used = uses.contains(format!("workflow.parameters.{name}").as_str());
        if let Some(parameter) = declared(template, arguments, name) {
            parameter["value"] = value.as_str().into();
            // The default is not used, and may contain variables that have no value here.
            parameter
                .as_object_mut()
                .map(|parameter| parameter.remove("default"));
        } else if let Some(arguments) = arguments.as_array_mut().filter(|_| used) {
            arguments.push(json!({"name": name, "value": value}));
        } else {
            return Err(unknown(name, template, arguments));
        }
    }
    Ok(())
}

/// Names of the parameters that no tag of the template refers to.
pub(super) fn unread(template: &Value, parameters: &BTreeMap<String, String>) -> Vec<String> {
    let text = template.to_string();
    let is_unread = |name: &&String| {
        !["inputs", "workflow"]
            .iter()
            .any(|of| text.contains(&format!("{of}.parameters.{name}")))
    };
    parameters.keys().filter(is_unread).cloned().collect()
}

/// The declaration of a parameter: the template's, or else the workflow's.
fn declared<'a>(
    template: &'a mut Value,
    arguments: &'a mut Value,
    name: &str,
) -> Option<&'a mut Value> {
    let inputs = template.pointer_mut("/inputs/parameters");
    [inputs, Some(arguments)]
        .into_iter()
        .flatten()
        .filter_map(Value::as_array_mut)
        .flatten()
        .find(|parameter| parameter["name"] == name)
}

fn unknown(name: &str, template: &Value, arguments: &Value) -> Failure {
    let inputs = template.pointer("/inputs/parameters");
    let mut seen = BTreeSet::new();
    let known: Vec<&str> = [inputs, Some(arguments)]
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|parameter| parameter["name"].as_str())
        .filter(|name| seen.insert(*name))
        .collect();
    let known = match known.as_slice() {
        [] => "none".to_owned(),
        known => known.join(", "),
    };
    Failure::usage(format!(
        "the template has no input parameter `{name}`; it has {known}"
    ))
}
