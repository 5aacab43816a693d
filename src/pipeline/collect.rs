//! What a run came to. Everything a guest left is untrusted here: names, sizes and paths are checked before they are believed.

use std::collections::BTreeMap;

use artifacts::Location;
use artifacts::archive::Pack;
use serde::Deserialize;
use serde_json::Value;
use sources::Digest;

use crate::runtime::{Captured, Ending, Report, Stop};
use crate::staging::{Made, StepDirectory};
use crate::step::GuestPath;
use crate::step::{Outcome, Parameter, Phase, Produced, Stage, Step, StepError};
use crate::text::units::{ByteSize, Time};

/// Bounds on what a step reports: one oversized result turns every node of Argo's batch into an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The message, in bytes.
    pub message: usize,
    /// `outputs.result`, in bytes; the end of standard output is kept.
    pub result: usize,
    /// One parameter's value, in bytes.
    pub parameter: usize,
    /// All parameters' values together, in bytes.
    pub parameters: usize,
}

const RESULT_FILE: &str = "work/result.json";
const MAX_RESULT_FILE: u64 = 2 << 20;
const MAX_OUTPUTS: usize = 256;
/// How much of standard error goes into a message.
const STDERR_IN_MESSAGE: usize = 600;

/// What a module says it made, by `/work/result.json` or by the step world.
#[derive(Default)]
struct Said {
    phase: Option<Phase>,
    message: Option<String>,
    result: Option<String>,
    parameters: BTreeMap<String, String>,
    artifacts: BTreeMap<String, GuestPath>,
}

/// Decides phase, message and outputs, and finds the artifacts to store.
pub(super) fn collect(
    step: &Step,
    report: Report,
    directory: Option<&StepDirectory>,
    bounds: &Bounds,
) -> (Outcome, Vec<Made>) {
    let (exit_code, verdict) = verdict(step, &report);
    let mut outcome = Outcome {
        phase: Phase::Succeeded,
        message: String::new(),
        result: Some(result_of_stdout(&report.stdout, bounds.result)),
        exit_code,
        parameters: Vec::new(),
        artifacts: Vec::new(),
    };
    let said = match report.ending {
        Ending::Returned(returned) => said_by_return(returned),
        _ => said_by_file(directory),
    };
    let said = match (verdict, said) {
        (Ok(()), Ok(said)) => said,
        (Ok(()), Err(malformed)) => {
            outcome.phase = Phase::Failed;
            outcome.message = malformed;
            return (outcome, Vec::new());
        }
        (Err((phase, message)), said) => {
            outcome.phase = phase;
            outcome.message = said
                .ok()
                .and_then(|said| said.message)
                .filter(|said| !said.is_empty())
                .unwrap_or(message);
            return (outcome, Vec::new());
        }
    };
    outcome.phase = said.phase.unwrap_or(Phase::Succeeded);
    outcome.message = said.message.clone().unwrap_or_default();
    if let Some(result) = &said.result {
        outcome.result = Some(keep_end(result, bounds.result).to_owned());
    }
    if outcome.phase != Phase::Succeeded {
        return (outcome, Vec::new());
    }
    let made = parameters(step, &said, directory, bounds).and_then(|parameters| {
        outcome.parameters = parameters;
        artifacts(step, &said, directory)
    });
    match made {
        Ok(made) => (outcome, made),
        Err(missing) => {
            outcome.phase = Phase::Failed;
            outcome.message = missing;
            outcome.parameters.clear();
            (outcome, Vec::new())
        }
    }
}

/// The exit code, and what the ending alone means.
fn verdict(step: &Step, report: &Report) -> (Option<i32>, Result<(), (Phase, String)>) {
    let failed = |message: String| Err((Phase::Failed, message));
    let with_stderr = |message: String| match stderr_tail(&report.stderr) {
        Some(tail) => format!("{message}: {tail}"),
        None => message,
    };
    match &report.ending {
        Ending::Exited(0) | Ending::Returned(_) => (Some(0), Ok(())),
        Ending::Exited(code) => (
            Some(*code),
            failed(with_stderr(format!("exit code {code}"))),
        ),
        Ending::Failed(message) => (Some(1), failed(message.clone())),
        Ending::Trapped(what) => (
            Some(134),
            failed(with_stderr(format!("the module trapped ({what})"))),
        ),
        Ending::Stopped(Stop::Cancelled) => (
            None,
            Err((Phase::Error, "the step was cancelled".to_owned())),
        ),
        Ending::Stopped(Stop::DiskFree) => {
            let message =
                "the executor's disk is nearly full: less than `limits.diskFree` of it is free";
            (None, Err((Phase::Error, message.to_owned())))
        }
        Ending::Stopped(stop) => {
            let limits = &step.limits;
            let (code, message) = match stop {
                Stop::Memory => (
                    137,
                    format!("memory limit of {} exceeded", ByteSize(limits.memory)),
                ),
                Stop::Time => (
                    124,
                    format!("time limit of {} exceeded", Time(step.limits.time)),
                ),
                Stop::Deadline => (
                    124,
                    format!("{} during {}", whole_is_over(step), Stage::Run.name()),
                ),
                Stop::Output => (
                    153,
                    format!("output limit of {} exceeded", ByteSize(limits.output)),
                ),
                _ => (
                    153,
                    format!(
                        "disk limit of {} or {} files exceeded",
                        ByteSize(limits.disk),
                        limits.entries
                    ),
                ),
            };
            (Some(code), failed(message))
        }
    }
}

fn whole_is_over(step: &Step) -> String {
    match step.timeout {
        Some(timeout) if timeout <= step.limits.whole => {
            format!("timeout of {} exceeded", Time(timeout))
        }
        _ => format!(
            "the operator's limit of {} on a whole step exceeded",
            Time(step.limits.whole)
        ),
    }
}

/// The step's own timeout ended it outside the module.
pub(super) fn timed_out(step: &Step, stage: Stage) -> StepError {
    let message = format!("{} during {}", whole_is_over(step), stage.name());
    match stage {
        Stage::Collect | Stage::StageOut => StepError::failed(stage, message),
        _ => StepError::error(stage, message),
    }
}

/// The last lines of standard error, on one line.
fn stderr_tail(stderr: &Captured) -> Option<String> {
    let text = String::from_utf8_lossy(&stderr.tail);
    let tail = keep_end(text.trim(), STDERR_IN_MESSAGE);
    (!tail.is_empty()).then(|| tail.to_owned())
}

/// Standard output less one trailing newline; the end of it, when it is long.
fn result_of_stdout(stdout: &Captured, limit: usize) -> String {
    let text = String::from_utf8_lossy(&stdout.tail);
    keep_end(text.strip_suffix('\n').unwrap_or(&text), limit).to_owned()
}

fn keep_end(text: &str, limit: usize) -> &str {
    let start = text.len().saturating_sub(limit);
    &text[(start..=text.len())
        .find(|start| text.is_char_boundary(*start))
        .unwrap_or(text.len())..]
}

fn keep_start(text: &str, limit: usize) -> &str {
    let end = limit.min(text.len());
    &text[..(0..=end)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0)]
}

/// `/work/result.json`: field names and meaning as in the original plugin.
#[derive(Deserialize)]
struct ResultFile {
    phase: Option<String>,
    message: Option<String>,
    outputs: Option<ResultOutputs>,
}

#[derive(Default, Deserialize)]
struct ResultOutputs {
    #[serde(default)]
    parameters: Option<Vec<ResultParameter>>,
    #[serde(default)]
    artifacts: Option<Vec<ResultArtifact>>,
}

#[derive(Deserialize)]
struct ResultParameter {
    name: String,
    value: Value,
}

#[derive(Deserialize)]
struct ResultArtifact {
    name: String,
    path: String,
}

fn said_by_file(directory: Option<&StepDirectory>) -> Result<Said, String> {
    let malformed = |why: String| format!("the module's /work/result.json is malformed: {why}");
    let Some(directory) = directory else {
        return Ok(Said::default());
    };
    let Some(bytes) = directory
        .read(RESULT_FILE, MAX_RESULT_FILE)
        .map_err(|error| malformed(error.to_string()))?
    else {
        return Ok(Said::default());
    };
    let file: ResultFile =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let phase = match file.phase.as_deref() {
        None => None,
        Some("Succeeded") => Some(Phase::Succeeded),
        Some("Failed") => Some(Phase::Failed),
        Some(other) => {
            let shown = keep_start(other, 40);
            return Err(malformed(format!(
                "its phase is `{shown}`, and must be `Succeeded` or `Failed`"
            )));
        }
    };
    let outputs = file.outputs.unwrap_or_default();
    let parameters = outputs
        .parameters
        .unwrap_or_default()
        .into_iter()
        .map(|parameter| {
            let value = match parameter.value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            (parameter.name, value)
        });
    let artifacts = outputs
        .artifacts
        .unwrap_or_default()
        .into_iter()
        .map(|artifact| (artifact.name, artifact.path));
    said(phase, file.message, None, parameters, artifacts).map_err(malformed)
}

fn said_by_return(returned: crate::runtime::step_types::Outcome) -> Result<Said, String> {
    let parameters = returned
        .parameters
        .into_iter()
        .map(|parameter| (parameter.name, parameter.value));
    let artifacts = returned
        .artifacts
        .into_iter()
        .map(|artifact| (artifact.name, artifact.path));
    said(
        None,
        returned.message,
        returned.result,
        parameters,
        artifacts,
    )
    .map_err(|why| format!("the module returned a malformed outcome: {why}"))
}

fn said(
    phase: Option<Phase>,
    message: Option<String>,
    result: Option<String>,
    parameters: impl Iterator<Item = (String, String)>,
    artifacts: impl Iterator<Item = (String, String)>,
) -> Result<Said, String> {
    let mut said = Said {
        phase,
        message,
        result,
        ..Said::default()
    };
    for (name, value) in parameters {
        if !is_name(&name, "-_") {
            return Err(format!(
                "`{}` cannot be a parameter's name",
                keep_start(&name, 80)
            ));
        }
        said.parameters.insert(name, value);
    }
    for (name, path) in artifacts {
        if !is_artifact_name(&name) {
            return Err(format!(
                "`{}` cannot be an artifact's name",
                keep_start(&name, 80)
            ));
        }
        let path = path
            .parse()
            .map_err(|error| format!("artifact `{name}`: {error}"))?;
        said.artifacts.insert(name, path);
    }
    if said.parameters.len() + said.artifacts.len() > MAX_OUTPUTS {
        return Err(format!("it has more than {MAX_OUTPUTS} outputs"));
    }
    Ok(said)
}

/// Argo's patterns for names (the full CRD of `WorkflowTaskSet`): letters, digits and some signs.
fn is_name(name: &str, signs: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}

/// Whether an artifact can have this name. One that starts with a dot is a hidden file on the machine of whoever tries the module.
pub fn is_artifact_name(name: &str) -> bool {
    is_name(name, "-_{}.") && !name.starts_with('.')
}

/// Every declared parameter, from where it can be had, and then the ones that only the module names.
fn parameters(
    step: &Step,
    said: &Said,
    directory: Option<&StepDirectory>,
    bounds: &Bounds,
) -> Result<Vec<Parameter>, String> {
    let mut parameters = Vec::new();
    let mut undeclared = said.parameters.clone();
    for declared in &step.output_parameters {
        let name = &declared.name;
        let returned = undeclared.remove(name);
        let value = match (&declared.value, returned, &declared.path, directory) {
            (Some(constant), ..) => Some(constant.clone()),
            (None, Some(returned), ..) => Some(returned),
            (None, None, Some(path), Some(directory)) => {
                parameter_file(name, path, directory, bounds)?
            }
            _ => None,
        };
        let Some(value) = value.or_else(|| declared.default.clone()) else {
            let place = declared
                .path
                .as_ref()
                .map(|path| format!(" or write it to {path}"))
                .unwrap_or_default();
            return Err(format!(
                "output parameter `{name}` is missing: the module must return it{place}, or give it a default"
            ));
        };
        parameters.push(Parameter {
            name: name.clone(),
            value,
        });
    }
    parameters.extend(
        undeclared
            .into_iter()
            .map(|(name, value)| Parameter { name, value }),
    );
    if let Some(large) = parameters
        .iter()
        .find(|parameter| parameter.value.len() > bounds.parameter)
    {
        let limit = ByteSize(bounds.parameter as u64);
        return Err(format!(
            "output parameter `{}` is larger than {limit}; make it an artifact",
            large.name
        ));
    }
    if parameters
        .iter()
        .map(|parameter| parameter.value.len())
        .sum::<usize>()
        > bounds.parameters
    {
        let limit = ByteSize(bounds.parameters as u64);
        return Err(format!(
            "the output parameters together are larger than {limit}; make the large ones artifacts"
        ));
    }
    Ok(parameters)
}

/// A parameter's file, less one trailing newline, as Argo's executor reads it (`SaveParameters`).
fn parameter_file(
    name: &str,
    path: &GuestPath,
    directory: &StepDirectory,
    bounds: &Bounds,
) -> Result<Option<String>, String> {
    let read = directory.read(path.relative(), bounds.parameter as u64 + 1);
    let bytes = read.map_err(|error| {
        format!("output parameter `{name}` cannot be read from {path}: {error}")
    })?;
    Ok(bytes.map(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }))
}

/// Every declared artifact that was made, and the ones that only the module names.
fn artifacts(
    step: &Step,
    said: &Said,
    directory: Option<&StepDirectory>,
) -> Result<Vec<Made>, String> {
    let mut made = Vec::new();
    let mut undeclared = said.artifacts.clone();
    for declared in &step.output_artifacts {
        let returned = undeclared.remove(&declared.name);
        let found = find(&declared.path, directory).or_else(|| find(&returned?, directory));
        match found {
            Some(path) => made.push(Made {
                name: declared.name.clone(),
                path,
                location: declared.location.clone(),
                pack: declared.pack,
            }),
            None if declared.optional => {}
            None => {
                let (name, path) = (&declared.name, &declared.path);
                let why = match directory.is_some_and(|directory| directory.is_link(path)) {
                    true => {
                        "is a link that leads to nothing in the step's directory; a link there must be relative"
                    }
                    false => "has nothing",
                };
                return Err(format!("output artifact `{name}` is missing: {path} {why}"));
            }
        }
    }
    for (name, path) in undeclared {
        let Some(path) = find(&path, directory) else {
            return Err(format!(
                "output artifact `{name}` is missing: the module says it is at {path}, and it is not"
            ));
        };
        let Some(place) = step.undeclared_artifacts.clone() else {
            return Err(format!(
                "output artifact `{name}` cannot be stored: there is no artifact repository for it, or no --output-dir"
            ));
        };
        let key = if place.key.is_empty() {
            name.clone()
        } else {
            format!("{}/{name}", place.key)
        };
        made.push(Made {
            location: Location { key, ..place },
            name,
            path,
            pack: Pack::None,
        });
    }
    Ok(made)
}

/// At its path, or at the same path under `/work/artifacts-out`.
fn find(path: &GuestPath, directory: Option<&StepDirectory>) -> Option<GuestPath> {
    let directory = directory?;
    let left = format!("/work/artifacts-out{path}").parse().ok();
    [Some(path.clone()), left]
        .into_iter()
        .flatten()
        .find(|path| directory.contains(path))
}

impl Outcome {
    /// What was stored, and in the message what of it was left out.
    pub(super) fn stored(&mut self, artifacts: Vec<Produced>) {
        for Produced {
            name,
            links_left_out,
            ..
        } in artifacts
            .iter()
            .filter(|produced| produced.links_left_out > 0)
        {
            self.note(&format!(
                "links left out of the artifact `{name}`: {links_left_out}"
            ));
        }
        self.artifacts = artifacts;
    }

    /// Adds to the message.
    pub(super) fn note(&mut self, note: &str) {
        if !self.message.is_empty() {
            self.message.push_str("; ");
        }
        self.message.push_str(note);
    }
}

/// Cuts a message to `limit` bytes.
pub(super) fn clip(message: &mut String, limit: usize) {
    if message.len() > limit {
        *message = format!("{}…", keep_start(message, limit.saturating_sub(3)));
    }
}

/// Bounds the message, and says which bytes ran.
pub(super) fn finish_message(outcome: &mut Outcome, module: &Digest, bounds: &Bounds) {
    let suffix = format!("module {}", module.short());
    let room = bounds.message.saturating_sub(suffix.len() + 6);
    let said = outcome.message.trim();
    let cut = keep_start(said, room);
    outcome.message = match (cut.is_empty(), cut.len() < said.len()) {
        (true, _) => suffix,
        (false, true) => format!("{cut}… ({suffix})"),
        (false, false) => format!("{cut} ({suffix})"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(keep_end("aäb", 2), "b");
        assert_eq!(keep_end("aäb", 3), "äb");
        assert_eq!(keep_start("aäb", 2), "a");
        assert_eq!(keep_start("", 5), "");
        assert_eq!(keep_end("", 5), "");
    }

    #[test]
    fn names_follow_argos_patterns() {
        assert!(is_name("a-b_1", "-_") && is_name("a.{b}", "-_{}."));
        for name in ["", "a b", "ä", "a/b", "a.b"] {
            assert!(!is_name(name, "-_"), "{name}");
        }
    }

    #[test]
    fn one_newline_is_taken_off_standard_output() {
        let stdout = |text: &str| Captured {
            tail: text.as_bytes().to_vec(),
        };
        assert_eq!(result_of_stdout(&stdout("a\n\n"), 100), "a\n");
        assert_eq!(result_of_stdout(&stdout("abc"), 2), "bc");
    }
}
