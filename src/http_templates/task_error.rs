//! The error of a task.

use crate::step::{Phase, Stage, StepError};

/// A task without a result: its phase, and the message for the reader of Argo's UI.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TaskError {
    /// `Failed`, or `Error` if neither the template nor a server is the cause.
    pub(super) phase: Phase,
    pub(super) message: String,
}

impl TaskError {
    /// The template or a server is the cause.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self {
            phase: Phase::Failed,
            message: message.into(),
        }
    }

    /// A fault of this program or of its machine is the cause.
    pub(super) fn fault(message: impl Into<String>) -> Self {
        Self {
            phase: Phase::Error,
            message: message.into(),
        }
    }
}

impl From<net::Error> for TaskError {
    fn from(error: net::Error) -> Self {
        let step = StepError::failed(Stage::Run, error.to_string());
        // The text has the hint, too.
        Self::failed(match error.hint() {
            Some(hint) => step.with_hint(hint).to_string(),
            None => step.to_string(),
        })
    }
}
