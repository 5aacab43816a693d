//! The JSON Schema of templates, generated from the types. `docs/schemas/template.schema.json` has
//! it for editors.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::plugin::Wasm;
use super::template::Template;

/// A template with a plugin block. Other keys of Argo are allowed, and have no description.
#[derive(JsonSchema)]
#[schemars(rename = "Template")]
#[expect(dead_code, reason = "only its schema is used")]
struct Document {
    #[serde(flatten)]
    template: Template,
    /// The plugin block of this executor.
    plugin: Plugin,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Plugin {
    wasm: Wasm,
}

/// The beginning of one of Argo's variables, which can have any value.
const VARIABLE: &str = r"\{\{";

/// The schema of a template.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(widen));
    settings.into_generator().into_root_schema_for::<Document>()
}

/// Allows the same scalars as [`crate::text::config_reader`]: a number or a boolean in place of a
/// string, and a string in place of a number or a boolean.
fn widen(schema: &mut Schema) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            widen_type(property);
            if !required.iter().any(|required| required == name) {
                allow_null(property);
            }
        }
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).into_iter().for_each(widen_type);
    }
}

fn widen_type(schema: &mut Value) {
    let Some(schema) = schema
        .as_object_mut()
        .filter(|schema| !schema.contains_key("enum"))
    else {
        return;
    };
    let Some(kind) = schema.get_mut("type") else {
        return;
    };
    let mut kinds = kind
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![kind.clone()]);
    let (others, pattern): (&[&str], _) = match kinds
        .iter()
        .find_map(|kind| kind.as_str().filter(|kind| *kind != "null"))
    {
        Some("string") => (&["number", "boolean"], None),
        Some("integer") => (&["string"], Some(format!("^[0-9]+$|{VARIABLE}"))),
        Some("boolean") => (&["string"], Some(format!("^(true|false)$|{VARIABLE}"))),
        _ => return,
    };
    kinds.extend(others.iter().map(|kind| json!(kind)));
    *kind = Value::Array(kinds);
    if let Some(pattern) = pattern {
        schema.insert("pattern".to_owned(), pattern.into());
    }
}

/// Allows null in place of a map, because an empty block is null in YAML.
fn allow_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    if let Some(reference) = schema.remove("$ref") {
        schema.insert(
            "anyOf".to_owned(),
            json!([{"$ref": reference}, {"type": "null"}]),
        );
    } else if schema.get("type").is_some_and(|kind| kind == "object") {
        schema.insert("type".to_owned(), json!(["object", "null"]));
    }
}
