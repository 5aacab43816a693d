//! From a module's report to the outcome of its step.

use super::messages::{last_bytes, result_of_stdout, stderr_tail};
use super::outputs;
use super::reported::Reported;
use super::stage::{StepContext, cancelled};
use crate::runtime::{Ending, Report, Stop};
use crate::staging::{OutputFile, StepDirectory};
use crate::step::{Outcome, OutputLimits, Phase, Stage, Step, StepError, StepLimits};
use crate::text::units::{ByteSize, Time};

/// The outcome of a step before its artifacts are stored.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) outcome: Outcome,
    /// Artifacts to store. Empty unless the step succeeded.
    pub(super) files: Vec<OutputFile>,
}

impl Collected {
    fn without_files(outcome: Outcome) -> Self {
        let files = Vec::new();
        Self { outcome, files }
    }
}

/// Decides phase, message and outputs of a step, and finds the artifacts to store.
///
/// If the module ended with an error, this error decides the phase. Otherwise, the phase that the
/// module reports applies. A missing or malformed output makes the phase `Failed`.
pub(super) fn collect(
    step: &Step,
    context: &StepContext,
    report: Report,
    directory: Option<&StepDirectory>,
    limits: &OutputLimits,
) -> Collected {
    let Verdict { exit_code, failure } = verdict(step, context, &report);
    let outcome = Outcome {
        phase: Phase::Succeeded,
        message: String::new(),
        result: Some(result_of_stdout(&report.stdout, limits.result)),
        exit_code,
        parameters: Vec::new(),
        artifacts: Vec::new(),
    };
    let reported = match report.ending {
        Ending::Returned(returned) => Reported::from_return(returned),
        _ => Reported::from_file(directory),
    };
    match (failure, reported) {
        (None, Ok(reported)) => succeeded(step, outcome, reported, directory, limits),
        (None, Err(malformed)) => Collected::without_files(malformed.into_outcome_after(outcome)),
        (Some(failure), reported) => {
            let mut outcome = failure.into_outcome_after(outcome);
            let message = reported.ok().and_then(|reported| reported.message);
            // The module's own message says more than its exit code.
            if let Some(message) = message.filter(|message| !message.is_empty()) {
                outcome.message = message;
            }
            Collected::without_files(outcome)
        }
    }
}

/// The outcome of a module that ended without an error, with its outputs.
fn succeeded(
    step: &Step,
    mut outcome: Outcome,
    reported: Reported,
    directory: Option<&StepDirectory>,
    limits: &OutputLimits,
) -> Collected {
    outcome.phase = reported.phase.unwrap_or(Phase::Succeeded);
    outcome.message = reported.message.unwrap_or_default();
    if let Some(result) = reported.result {
        outcome.result = Some(last_bytes(&result, limits.result).to_owned());
    }
    if outcome.phase != Phase::Succeeded {
        return Collected::without_files(outcome);
    }
    let parameters = outputs::parameters(step, reported.parameters, directory, limits);
    let outputs = parameters.and_then(|parameters| {
        let files = outputs::artifacts(step, reported.artifacts, directory)?;
        Ok((parameters, files))
    });
    match outputs {
        Ok((parameters, files)) => Collected {
            outcome: Outcome {
                parameters,
                ..outcome
            },
            files,
        },
        Err(error) => Collected::without_files(error.into_outcome_after(outcome)),
    }
}

/// Exit code and failure that follow from the ending of a module, without its reported outputs.
struct Verdict {
    /// `None` if the module was cancelled, or was stopped because the executor's disk is full.
    exit_code: Option<i32>,
    /// `None` when the module ended without an error.
    failure: Option<StepError>,
}

fn verdict(step: &Step, context: &StepContext, report: &Report) -> Verdict {
    let failed = |exit_code, message| Verdict {
        exit_code: Some(exit_code),
        failure: Some(StepError::failed(Stage::Run, message)),
    };
    let with_stderr = |message: String| match stderr_tail(&report.stderr) {
        Some(tail) => format!("{message}: {tail}"),
        None => message,
    };
    match &report.ending {
        Ending::Exited(0) | Ending::Returned(_) => Verdict {
            exit_code: Some(0),
            failure: None,
        },
        Ending::Exited(code) => failed(*code, with_stderr(format!("exit code {code}"))),
        Ending::Failed(message) => failed(1, message.clone()),
        Ending::Trapped(trap) => failed(134, with_stderr(format!("the module trapped ({trap})"))),
        Ending::CalledUnoffered(call) => {
            let message = with_stderr(call.to_string());
            Verdict {
                exit_code: Some(134),
                failure: Some(StepError::failed(Stage::Run, message).with_hint(call.hint())),
            }
        }
        Ending::Stopped(stop) => {
            let failure = stopped(*stop, &step.limits, context);
            Verdict {
                exit_code: stop_code(*stop),
                failure: Some(failure),
            }
        }
    }
}

/// The exit code of a module that was stopped, as a shell reports it for a container.
fn stop_code(stop: Stop) -> Option<i32> {
    match stop {
        Stop::Memory => Some(137),
        Stop::Time | Stop::Deadline => Some(124),
        Stop::Output | Stop::Disk => Some(153),
        Stop::Cancelled | Stop::DiskFree | Stop::Unmeasured(_) => None,
    }
}

fn stopped(stop: Stop, limits: &StepLimits, context: &StepContext) -> StepError {
    let message = match stop {
        Stop::Cancelled => return cancelled(Stage::Run),
        Stop::DiskFree => {
            let message = "the executor's disk is nearly full: \
                           less than `capacity.minFreeDisk` is free";
            return StepError::error(Stage::Run, message);
        }
        Stop::Unmeasured(_) => {
            return StepError::error(Stage::Run, stop.to_string()).with_hint(
                "run the step again; if the executor has too many open files, raise the \
                 container's limit on open files (`nofile`), or lower `capacity.steps`",
            );
        }
        Stop::Memory => format!("memory limit of {} exceeded", ByteSize(limits.memory)),
        Stop::Time => format!("time limit of {} exceeded", Time(limits.time)),
        Stop::Deadline => context.deadline_message(Stage::Run),
        Stop::Output => format!("output limit of {} exceeded", ByteSize(limits.output)),
        Stop::Disk => format!(
            "disk limit exceeded: more than {}, or more than {} files and directories",
            ByteSize(limits.disk),
            limits.entries
        ),
    };
    StepError::failed(Stage::Run, message)
}
