//! The key `result`: the form of the step's `outputs.result`.

use schemars::JsonSchema;
use serde::Deserialize;

/// `result`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultFormat {
    /// The form that the workflow needs: text outside of loops, JSON in a loop.
    #[default]
    Auto,
    /// The output as it is. Plain text ends a workflow with an error if the step is in a loop.
    Text,
    /// The output as it is if it is JSON, and otherwise the output as a JSON string.
    Json,
    /// No result.
    None,
}
