//! The reply to the agent.

use std::time::Duration;

use artifacts::s3::S3Location;
use artifacts::{Location, Repository};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::template::Template;
use crate::step::{Outcome, Phase, StoredOutput};

/// Longest message of a step that never started, in characters.
const MAX_ERROR_CHARS: usize = 1000;

/// `ExecuteTemplateReply`. A reply without a node means that the template is for another plugin:
/// the agent then asks the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Result of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeResult>,
    /// Delay after which the agent asks again, as a Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue: Option<String>,
}

/// `NodeResult`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeResult {
    /// Phase of the node. Without a phase, the agent writes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// Message for the reader of Argo's UI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Outputs of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
}

/// The phases of Argo's nodes that a plugin reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePhase {
    /// The step waits for its start, or runs.
    Running,
    /// The step ended, see [`Phase::Succeeded`].
    Succeeded,
    /// The step ended, see [`Phase::Failed`].
    Failed,
    /// The step ended, see [`Phase::Error`].
    Error,
}

impl From<Phase> for NodePhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Succeeded => Self::Succeeded,
            Phase::Failed => Self::Failed,
            Phase::Error => Self::Error,
        }
    }
}

/// `Outputs`. Every value is a string, because Argo reads any other value as an empty string.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outputs {
    /// Output parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Output artifacts in Argo's format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Map<String, Value>>,
    /// Result of the step: standard output, or the result that the module returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Exit code of the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<String>,
}

/// An output parameter with its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// Name of the parameter.
    pub name: String,
    /// Value of the parameter.
    pub value: String,
    /// Name under which the workflow exports the parameter. Argo exports a parameter only if the
    /// reply has this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_name: Option<String>,
}

impl Reply {
    /// The template is for another plugin.
    pub fn not_mine() -> Self {
        Self::default()
    }

    /// The step has no result that Argo needs. The agent writes nothing, and does not ask again.
    pub fn abandoned() -> Self {
        Self {
            node: Some(NodeResult::default()),
            requeue: None,
        }
    }

    /// The step still runs: the agent asks again after this delay, rounded up to whole seconds.
    ///
    /// The phase is empty, so the agent writes nothing.
    pub fn requeue(after: Duration) -> Self {
        Self::requeue_with(None, after)
    }

    /// As [`requeue`](Self::requeue), and the agent writes the phase `Running`.
    ///
    /// The controller ends a `Pending` node after the template's `timeout`, and fails the whole
    /// group of steps with it. The controller does not end a `Running` node.
    pub fn running(after: Duration) -> Self {
        Self::requeue_with(Some(NodePhase::Running), after)
    }

    fn requeue_with(phase: Option<NodePhase>, after: Duration) -> Self {
        let requeue = format!("{}s", after.as_secs() + u64::from(after.subsec_nanos() > 0));
        let node = NodeResult {
            phase,
            ..NodeResult::default()
        };
        Self {
            node: Some(node),
            requeue: Some(requeue),
        }
    }

    /// An error, and the step never started.
    pub fn error(message: impl Into<String>) -> Self {
        Self::not_started(Phase::Error, message)
    }

    /// The step never started.
    pub fn not_started(phase: Phase, message: impl Into<String>) -> Self {
        // The message can quote long texts of the template.
        let message = message.into().chars().take(MAX_ERROR_CHARS).collect();
        Self::node(NodeResult {
            phase: Some(phase.into()),
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

    /// The step ended. The template adds the fields of its outputs that Argo needs back.
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
                .map(|stored| artifact(stored, template))
                .collect(),
            result: outcome.result,
            exit_code: outcome.exit_code.map(|code| code.to_string()),
        };
        let outputs = (outputs != Outputs::default()).then_some(outputs);
        Self::node(NodeResult {
            phase: Some(outcome.phase.into()),
            message: outcome.message,
            outputs,
        })
    }
}

/// A stored output in Argo's format, with the fields of its declaration.
///
/// An output that the template does not declare is a plain file. It gets `archive: {none: {}}`, or
/// a consumer would guess how it is packed.
fn artifact(stored: StoredOutput, template: &Template) -> Map<String, Value> {
    let StoredOutput {
        name,
        path,
        location,
        ..
    } = stored;
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
    let (kind, location) = match repository {
        Repository::S3(bucket) if !default => {
            ("s3", serde_json::json!(S3Location { key, ..*bucket }))
        }
        Repository::Http(url) => ("http", serde_json::json!(url)),
        // A key alone names an object in the workflow's own repository. Argo has no kind for a
        // directory, so an object in one is written like that, too.
        _ => ("s3", serde_json::json!({"key": key})),
    };
    artifact.insert(kind.to_owned(), location);
    artifact
}
