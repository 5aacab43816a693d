//! The outcome of a step.

use std::fmt;

use artifacts::Location;
use serde::{Deserialize, Serialize};

use super::Parameter;

/// How a step ended. The names are those of Argo's node phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The module ran without an error, and all its outputs are stored.
    Succeeded,
    /// The module ran and failed, or a limit stopped the module.
    Failed,
    /// The module did not start, or something outside the module failed.
    Error,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Error => "Error",
        })
    }
}

/// The outcome of a step: how the step ended, and its outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the step ended.
    pub phase: Phase,
    /// Message for the reader of Argo's UI.
    pub message: String,
    /// The result that the module returned, or else its standard output. `None` when the module did
    /// not start.
    pub result: Option<String>,
    /// Exit code of the module: 134 for a trap, 137 for the memory limit, 124 for a time limit, 153
    /// for the limits on output and disk. `None` when the module did not start or was cancelled.
    pub exit_code: Option<i32>,
    /// Output parameters.
    pub parameters: Vec<Parameter>,
    /// Output artifacts that are stored.
    pub artifacts: Vec<StoredOutput>,
}

impl Outcome {
    /// Appends a note to the message.
    pub fn add_note(&mut self, note: &str) {
        if !self.message.is_empty() {
            self.message.push_str("; ");
        }
        self.message.push_str(note);
    }
}

/// An output artifact that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutput {
    /// Name of the artifact.
    pub name: String,
    /// Path at which the guest left the artifact. Empty for the log.
    pub path: String,
    /// Where the artifact is stored.
    pub location: Location,
    /// Number of links in a directory that were left out, because the store has no links.
    pub links_left_out: usize,
}
