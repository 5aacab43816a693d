//! The id of one execution of a step.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Identifies one execution of a step in log lines and traces. A retry of a node is another
/// execution with another id.
///
/// The front end makes the id, unique in its process:
///
/// - The agent's API makes the id from the workflow, the digest of the call's bytes and a number
///   that is incremented for each execution.
/// - The command `run` executes one step, and its id is `run`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ExecutionId(Arc<str>);

impl ExecutionId {
    /// The id with this text. The text must not be secret.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for ExecutionId {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<ExecutionId> for String {
    fn from(id: ExecutionId) -> Self {
        id.as_str().to_owned()
    }
}
