//! `/work/input.json`: how a module of the `/work` contract gets its inputs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::step::{Content, Parameter, Step};

/// Content of `/work/input.json`. The names are those of the original plugin, so that its modules
/// run unchanged.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkInput {
    /// Name of the Workflow.
    pub workflow_name: String,
    /// The template's `options`.
    pub plugin_options: Vec<PluginOption>,
    /// Input parameters.
    pub parameters: Vec<Parameter>,
    /// Input artifacts that have content.
    pub artifacts: Vec<WorkArtifact>,
}

/// One of the template's `options`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PluginOption {
    /// Key of the option.
    pub name: String,
    /// Value of the option, as in the template.
    pub value: Value,
}

/// An artifact in `/work/input.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkArtifact {
    /// Name of the artifact.
    pub name: String,
    /// Path of the artifact. A link to the artifact is under `/work/artifacts-in`.
    pub path: String,
    /// Key of the artifact, when its content is in a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<WorkKey>,
}

/// A key in an artifact store.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkKey {
    /// The key.
    pub key: String,
}

impl WorkInput {
    /// The content for one step.
    pub(super) fn of(step: &Step) -> Self {
        let options = step.options.iter().map(|(name, value)| PluginOption {
            name: name.clone(),
            value: value.clone(),
        });
        let artifacts = step.inputs.iter().filter_map(|input| {
            let s3 = match input.content.as_ref()? {
                Content::Stored(location) => Some(WorkKey {
                    key: location.key.clone(),
                }),
                Content::Raw(_) => None,
            };
            Some(WorkArtifact {
                name: input.name.clone(),
                path: input.path.to_string(),
                s3,
            })
        });
        Self {
            workflow_name: step.workflow.name.clone(),
            plugin_options: options.collect(),
            parameters: step.parameters.clone(),
            artifacts: artifacts.collect(),
        }
    }
}
