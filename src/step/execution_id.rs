//! The id of an execution.

use std::fmt;
use std::sync::Arc;

/// Identifies one execution of a step within this process.
///
/// The front door that starts the execution makes the id. Two executions never have the same id,
/// even if they run the same template with the same inputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutionId(Arc<str>);

impl ExecutionId {
    /// Makes an id from a text that no other execution has.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into().into())
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
