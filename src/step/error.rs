//! Errors of a step, for two readers: the node's message says what happened and what to do; the log has the cause.

use std::error::Error as StdError;
use std::fmt;

use super::{Outcome, Phase};

/// The stages of a step, in order. One name each, in errors, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Understanding the template.
    Parse,
    /// From the reference to a digest.
    Resolve,
    /// From the digest to bytes.
    Fetch,
    /// From bytes to machine code.
    Compile,
    /// Waiting for a place among other steps.
    Queue,
    /// Putting inputs into the step's directory.
    StageIn,
    /// Running the module.
    Run,
    /// Reading what it made.
    Collect,
    /// Storing what it made.
    StageOut,
}

impl Stage {
    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Resolve => "resolve",
            Self::Fetch => "fetch",
            Self::Compile => "compile",
            Self::Queue => "queue",
            Self::StageIn => "stage_in",
            Self::Run => "run",
            Self::Collect => "collect",
            Self::StageOut => "stage_out",
        }
    }
}

/// Why a step did not succeed.
#[derive(Debug)]
pub struct StepError {
    stage: Stage,
    phase: Phase,
    message: String,
    hint: Option<String>,
    retryable: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StepError {
    /// The module never started, or the infrastructure failed.
    pub fn error(stage: Stage, message: impl Into<String>) -> Self {
        Self {
            stage,
            phase: Phase::Error,
            message: message.into(),
            hint: None,
            retryable: false,
            source: None,
        }
    }

    /// The module started, and this is its fault.
    pub fn failed(stage: Stage, message: impl Into<String>) -> Self {
        Self {
            phase: Phase::Failed,
            ..Self::error(stage, message)
        }
    }

    /// Adds to the message.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }

    /// Adds what the reader can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says whether the same step may succeed later.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// The error of fetching a module, at one stage.
    pub fn from_source(stage: Stage, error: &sources::Error) -> Self {
        let hint = error.remedy().map(str::to_owned);
        let this = Self::error(stage, error.to_string())
            .retryable(error.retryable())
            .caused_by(error.clone());
        Self { hint, ..this }
    }

    /// Where it happened.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What the step came to.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The outcome to report when the module had come to `outcome` already. Logs the cause.
    pub fn over(self, outcome: Outcome) -> Outcome {
        let Outcome { phase, message, .. } = self.into_outcome();
        Outcome {
            phase,
            message,
            artifacts: Vec::new(),
            ..outcome
        }
    }

    /// The outcome to report. Logs the cause.
    pub fn into_outcome(self) -> Outcome {
        tracing::warn!(
            stage = self.stage.name(),
            phase = ?self.phase,
            retryable = self.retryable,
            cause = self.source.as_ref().map(|source| chain(&**source)),
            "{self}"
        );
        Outcome {
            phase: self.phase,
            message: self.to_string(),
            result: None,
            exit_code: None,
            parameters: Vec::new(),
            artifacts: Vec::new(),
        }
    }
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| {
        (*error).source()
    });
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => {
                let mut rest = hint.chars();
                let first = rest
                    .next()
                    .map(|first| first.to_ascii_uppercase().to_string())
                    .unwrap_or_default();
                write!(f, "{}. {first}{}", self.message, rest.as_str())
            }
            None => f.write_str(&self.message),
        }
    }
}

impl StdError for StepError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
