//! A step's directory: what the guest sees as `/`.
//!
//! ```text
//! /                      made for the step, removed after it
//! ├── <declared paths>   inputs, and the parents of every input and output
//! ├── tmp/
//! └── work/
//!     ├── input.json     parameters, options and artifacts
//!     ├── result.json    written by modules of the `/work` contract
//!     ├── artifacts-in/  links to the inputs, by their declared paths
//!     └── artifacts-out/ where outputs may be left instead of at their declared paths
//! ```
//!
//! The host makes the layout before the guest starts. From then on it opens nothing by a path of its own, only relative to the
//! directory and without following a link out of it.

mod artifacts;
mod cleaner;
mod directory;
mod scratch;

pub use self::artifacts::{Made, stage_in, stage_out};
pub use cleaner::Cleaner;
pub use directory::StepDirectory;
pub use scratch::Scratch;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::step::{Content, Parameter, Step};

/// What `/work/input.json` holds. The names are the original plugin's, so that its modules run unchanged.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkInput {
    /// The workflow's name.
    pub workflow_name: String,
    /// The template's `options`.
    pub plugin_options: Vec<PluginOption>,
    /// The input parameters.
    pub parameters: Vec<Parameter>,
    /// The input artifacts that are there.
    pub artifacts: Vec<WorkArtifact>,
}

/// One of the template's `options`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PluginOption {
    /// Its key.
    pub name: String,
    /// Its value, as written in the template.
    pub value: Value,
}

/// An artifact in `/work/input.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkArtifact {
    /// Its name.
    pub name: String,
    /// Where it is. The same content is under `/work/artifacts-in`.
    pub path: String,
    /// Where it came from, if from a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<WorkKey>,
}

/// A key in the artifact repository.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkKey {
    /// The key.
    pub key: String,
}

fn work_input(step: &Step) -> WorkInput {
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
    WorkInput {
        workflow_name: step.workflow.name.clone(),
        plugin_options: options.collect(),
        parameters: step.parameters.clone(),
        artifacts: artifacts.collect(),
    }
}
