//! The failure of a command.

use std::fmt;

use super::Exit;
use crate::text::DocumentError;

/// Why a command failed: a message, a hint if there is one, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) exit: Exit,
}

impl Failure {
    /// The command line, the configuration or a template has a mistake.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            exit: Exit::Usage,
        }
    }

    /// The command could not be carried out.
    pub(crate) fn error(message: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Error,
            ..Self::usage(message)
        }
    }

    /// Adds a hint: what the user can do.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        Self::usage(error)
    }
}

impl From<sources::Error> for Failure {
    fn from(error: sources::Error) -> Self {
        Self {
            hint: error.remedy().map(str::to_owned),
            ..Self::error(error)
        }
    }
}
