//! The failure of a command.

use std::fmt;

use super::Exit;
use crate::text::DocumentError;

/// Why a command failed: a message, a hint if there is one, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    hint: Option<String>,
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
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The hint, if the failure has one.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.hint() {
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
            hint: error.hint().map(str::to_owned),
            ..Self::error(error)
        }
    }
}
