//! The error of a step.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::{Outcome, Phase, Stage, StepNames, step_event};

/// Why a step did not succeed. The message and the hint are for the reader of Argo's UI; the source
/// is for the log.
#[derive(Clone, Debug)]
pub struct StepError {
    stage: Stage,
    phase: Phase,
    message: String,
    hint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl StepError {
    /// An error of the phase `Error`: the module did not start, or something outside the module
    /// failed.
    pub fn error(stage: Stage, message: impl Into<String>) -> Self {
        Self::new(stage, Phase::Error, message.into())
    }

    /// An error of the phase `Failed`: the module ran, and the module is the cause.
    pub fn failed(stage: Stage, message: impl Into<String>) -> Self {
        Self::new(stage, Phase::Failed, message.into())
    }

    /// The error of a step whose execution panicked in `stage`.
    pub fn panicked(stage: Stage) -> Self {
        let message = "the step panicked; this is a defect of this program: see its log";
        Self::error(stage, message)
    }

    fn new(stage: Stage, phase: Phase, message: String) -> Self {
        Self {
            stage,
            phase,
            message,
            hint: None,
            source: None,
        }
    }

    /// The error of a module source, in one stage.
    pub fn from_source(stage: Stage, error: &sources::Error) -> Self {
        let this = Self::error(stage, error.to_string()).caused_by(error.clone());
        match error.hint() {
            Some(hint) => this.with_hint(hint),
            None => this,
        }
    }

    /// Appends a text to the message.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }

    /// Sets the hint: what the reader can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the source.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The stage in which the error happened.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The phase of the step's outcome: `Failed` or `Error`.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The hint, if the error has one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Writes a warning with the chain of sources to the log.
    pub fn log(&self, names: &StepNames) {
        step_event!(
            WARN,
            names,
            stage = self.stage.name(),
            phase = %self.phase,
            cause = self.source.as_ref().map(|source| chain(&**source)),
            "{self}"
        );
    }

    /// The outcome of a step that ended with this error before its module ended.
    pub fn into_outcome(self) -> Outcome {
        Outcome {
            phase: self.phase,
            message: self.to_string(),
            result: None,
            exit_code: None,
            parameters: Vec::new(),
            artifacts: Vec::new(),
        }
    }

    /// The outcome of a step whose module ended with `outcome` before this error happened. The
    /// result and the exit code stay; there are no artifacts.
    pub fn into_outcome_after(self, outcome: Outcome) -> Outcome {
        Outcome {
            phase: self.phase,
            message: self.to_string(),
            artifacts: Vec::new(),
            ..outcome
        }
    }
}

/// The messages of an error and of all its sources, separated by colons.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| {
        (*error).source()
    });
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The message, and the hint as a sentence of its own.
impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(hint) = self.hint() else {
            return f.write_str(&self.message);
        };
        let mut rest = hint.chars();
        let first = rest.next().map(|first| first.to_ascii_uppercase());
        write!(f, "{}. ", self.message)?;
        first.map_or(Ok(()), |first| write!(f, "{first}"))?;
        f.write_str(rest.as_str())
    }
}

impl StdError for StepError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_a_sentence_after_the_message() {
        let error = StepError::error(Stage::Parse, "the key `a` is unknown").with_hint("use `b`");
        assert_eq!(error.to_string(), "the key `a` is unknown. Use `b`");
    }

    #[test]
    fn clones_have_the_same_source() {
        let source = std::io::Error::other("disk full");
        let error = StepError::failed(Stage::Collect, "cannot be read").caused_by(source);
        let clone = error.clone();
        assert_eq!(clone.to_string(), error.to_string());
        assert_eq!(clone.source().unwrap().to_string(), "disk full");
    }
}
