//! The checks of the API server on a patch of the agent. One invalid node makes the API server
//! refuse the whole patch.
//!
//! Source: the full CRD of `WorkflowTaskSet` (`manifests/base/crds/full`, Argo 4.1) and etcd's
//! limit on the size of objects.

use std::collections::BTreeMap;

use serde_json::Value;

/// Largest size of an object in bytes. The limit is etcd's.
pub const MAX_OBJECT: usize = 1_500_000;

/// The reason for which the API server refuses a patch; `None` if it accepts the patch. `tasks` and
/// `status` are the current content of the object.
pub fn refusal(
    tasks: &BTreeMap<String, Value>,
    status: &BTreeMap<String, Value>,
    patch: &BTreeMap<String, Value>,
) -> Option<String> {
    for (id, node) in patch {
        if let Some(why) = node_refusal(node) {
            return Some(format!("status.nodes.{id}: {why}"));
        }
    }
    let unchanged = status.iter().filter(|(id, _)| !patch.contains_key(*id));
    let all = tasks.iter().chain(unchanged).chain(patch);
    let size: usize = all
        .map(|(id, value)| id.len() + value.to_string().len() + 8)
        .sum();
    (size > MAX_OBJECT).then(|| format!("etcdserver: request is too large ({size} bytes)"))
}

fn node_refusal(node: &Value) -> Option<String> {
    let phase = node["phase"].as_str();
    if !matches!(
        phase,
        Some("Pending" | "Running" | "Succeeded" | "Skipped" | "Failed" | "Error" | "Omitted")
    ) {
        return Some(format!("phase: unsupported value {}", node["phase"]));
    }
    if !node["message"].is_string() && !node["message"].is_null() {
        return Some("message: must be a string".to_owned());
    }
    let outputs = &node["outputs"];
    for key in ["result", "exitCode"] {
        if !outputs[key].is_string() && !outputs[key].is_null() {
            return Some(format!("outputs.{key}: must be a string"));
        }
    }
    let list = |key: &str| outputs[key].as_array().cloned().unwrap_or_default();
    for parameter in list("parameters") {
        if !is_name(&parameter["name"], "-_") {
            return Some(format!(
                "outputs.parameters: bad name {}",
                parameter["name"]
            ));
        }
        if !parameter["value"].is_string() {
            return Some(format!(
                "outputs.parameters.{}: must be a string",
                parameter["name"]
            ));
        }
    }
    for artifact in list("artifacts") {
        if !is_name(&artifact["name"], "-_{}.") {
            return Some(format!("outputs.artifacts: bad name {}", artifact["name"]));
        }
        let locations = [
            "s3",
            "raw",
            "http",
            "git",
            "gcs",
            "azure",
            "oss",
            "hdfs",
            "artifactory",
            "plugin",
        ];
        if locations
            .iter()
            .filter(|kind| !artifact[**kind].is_null())
            .count()
            > 1
        {
            return Some(format!(
                "outputs.artifacts.{}: at most one location",
                artifact["name"]
            ));
        }
        if artifact["mode"]
            .as_i64()
            .is_some_and(|mode| !(0..=511).contains(&mode))
        {
            return Some(format!("outputs.artifacts.{}: bad mode", artifact["name"]));
        }
    }
    None
}

/// Whether a name consists of letters, digits and these signs.
fn is_name(name: &Value, signs: &str) -> bool {
    name.as_str().is_some_and(|name| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
    })
}
