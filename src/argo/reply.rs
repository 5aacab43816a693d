//! What the agent wants back.

use std::time::Duration;

use artifacts::s3::S3Location;
use artifacts::{Location, Repository};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::template::Template;
use crate::step::{Outcome, Phase, Produced};

/// `ExecuteTemplateReply`. Without a node it means "not mine", and the agent asks the next plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What the node came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeResult>,
    /// When to ask again, as a Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue: Option<String>,
}

/// `NodeResult`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeResult {
    /// `Succeeded`, `Failed` or `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// For the person at the UI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
}

/// `Outputs`. Every value is a string: Argo turns anything else into an empty one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outputs {
    /// Output parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Output artifacts, as Argo writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Map<String, Value>>,
    /// Standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<String>,
}

/// An output parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The name it is exported under. Argo exports it only when it is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_name: Option<String>,
}

impl Reply {
    /// Some other plugin's template.
    pub fn not_mine() -> Self {
        Self::default()
    }

    /// Ours, and there is nothing to say of it: the agent writes nothing, and asks no more.
    pub fn nothing() -> Self {
        Self {
            node: Some(NodeResult::default()),
            requeue: None,
        }
    }

    /// The step goes on: ask again after that time. The phase is empty, so that Argo goes on watching the node's timeout, and writes nothing.
    pub fn later(after: Duration) -> Self {
        // Rounded up to what Go reads.
        let requeue = format!("{}s", after.as_secs() + u64::from(after.subsec_nanos() > 0));
        Self {
            node: Some(NodeResult::default()),
            requeue: Some(requeue),
        }
    }

    /// A step that never started.
    pub fn error(message: impl Into<String>) -> Self {
        // What people wrote is in it, and Argo takes only so much.
        let message = message.into().chars().take(1000).collect();
        Self::node(NodeResult {
            phase: Some(Phase::Error),
            message,
            outputs: None,
        })
    }

    fn node(node: NodeResult) -> Self {
        Self {
            node: Some(node),
            requeue: None,
        }
    }

    /// What a step came to, with what its template declared about its outputs.
    pub fn outcome(outcome: Outcome, template: &Template) -> Self {
        let global_name = |name: &str| {
            let declared = template
                .outputs
                .parameters
                .iter()
                .find(|declared| declared.name == name);
            declared.and_then(|declared| declared.global_name.clone())
        };
        let parameters = outcome.parameters.into_iter().map(|parameter| Parameter {
            global_name: global_name(&parameter.name),
            name: parameter.name,
            value: parameter.value,
        });
        let outputs = Outputs {
            parameters: parameters.collect(),
            artifacts: outcome
                .artifacts
                .into_iter()
                .map(|produced| artifact(produced, template))
                .collect(),
            result: outcome.result,
            exit_code: outcome.exit_code.map(|code| code.to_string()),
        };
        let outputs = (outputs != Outputs::default()).then_some(outputs);
        Self::node(NodeResult {
            phase: Some(outcome.phase),
            message: outcome.message,
            outputs,
        })
    }
}

/// The artifact as declared, and where it is: without `archive`, a consumer would guess how it is packed.
fn artifact(produced: Produced, template: &Template) -> Map<String, Value> {
    let Produced {
        name,
        path,
        location,
        ..
    } = produced;
    let mut artifact = Map::from_iter([("name".to_owned(), Value::from(name.clone()))]);
    let declared = template
        .outputs
        .artifacts
        .iter()
        .find(|declared| declared.name == name);
    let path = declared
        .and_then(|declared| declared.path.clone())
        .unwrap_or(path);
    if !path.is_empty() {
        artifact.insert("path".to_owned(), path.into());
    }
    if let Some(declared) = declared {
        let archive = declared.archive.map(|archive| serde_json::json!(archive));
        let kept = [
            ("archive", archive),
            ("optional", declared.optional.map(Value::from)),
            ("globalName", declared.global_name.clone().map(Value::from)),
            ("artifactGC", declared.artifact_gc.clone()),
        ];
        artifact.extend(
            kept.into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?))),
        );
    } else {
        artifact.insert("archive".to_owned(), serde_json::json!({"none": {}}));
    }
    let Location {
        repository,
        key,
        default,
    } = location;
    let (kind, place) = match repository {
        Repository::S3(bucket) if !default => {
            ("s3", serde_json::json!(S3Location { key, ..*bucket }))
        }
        Repository::Http(url) => ("http", serde_json::json!(url)),
        // A key alone means "in the workflow's own repository". Argo knows no directories: one stands for that.
        _ => ("s3", serde_json::json!({"key": key})),
    };
    artifact.insert(kind.to_owned(), place);
    artifact
}
