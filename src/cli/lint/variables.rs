//! Mistakes in the variables of a template.

use serde_json::Value;

use super::finding::Finding;

/// Whether a value has a text with a tag, `{{…}}`.
pub(super) fn contains_tag(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{"),
        Value::Array(items) => items.iter().any(contains_tag),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains("{{") || contains_tag(value)),
        _ => false,
    }
}

/// Inputs that the template uses and does not declare, and misspelt variables.
pub(super) fn check(template: &Value) -> Vec<Finding> {
    let mut names = Vec::new();
    collect(template, &mut names);
    names.sort_unstable();
    names.dedup();
    names
        .iter()
        .filter_map(|name| mistake(name, template))
        .map(Finding::error)
        .collect()
}

/// Adds the names of the variables in the texts of a value.
fn collect(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let tags = text.split("{{").skip(1);
            let tags = tags.filter_map(|rest| rest.split_once("}}"));
            names.extend(tags.map(|(tag, _)| tag.trim().to_owned()));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Object(map) => map.values().for_each(|value| collect(value, names)),
        _ => {}
    }
}

fn mistake(name: &str, template: &Value) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        [kind @ ("steps" | "tasks"), step, "outputs", "exitCode"] => Some(format!(
            "`{{{{{name}}}}}` is not a variable of Argo; write `{{{{{kind}.{step}.exitCode}}}}`"
        )),
        ["inputs", kind @ ("parameters" | "artifacts"), input, ..]
            if !declares(template, kind, input) =>
        {
            Some(format!(
                "`{{{{{name}}}}}`: the template has no `{input}` under `inputs.{kind}`"
            ))
        }
        _ => None,
    }
}

fn declares(template: &Value, kind: &str, name: &str) -> bool {
    template
        .pointer(&format!("/inputs/{kind}"))
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|item| item["name"] == name))
}
