//! Outputs that a module reports: in `/work/result.json`, or by the return value of the step world.
//!
//! All these outputs are untrusted. Names, sizes and paths are checked here.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::messages::first_bytes;
use crate::runtime::step_types;
use crate::staging::StepDirectory;
use crate::step::{
    GuestPath, LOG_ARTIFACT, Phase, Stage, StepError, is_artifact_name, is_parameter_name,
};

const RESULT_FILE: &str = "work/result.json";
/// Largest size of `/work/result.json`, in bytes.
const MAX_RESULT_FILE: u64 = 2 << 20;
/// Largest number of parameters and artifacts together.
const MAX_OUTPUTS: usize = 256;

/// Outputs that a module reports. A module that reports nothing has the default.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// `None` when the module reports no phase; the exit code decides then.
    pub(super) phase: Option<Phase>,
    pub(super) message: Option<String>,
    pub(super) result: Option<String>,
    /// Values by the names of the parameters.
    pub(super) parameters: BTreeMap<String, String>,
    /// Paths by the names of the artifacts.
    pub(super) artifacts: BTreeMap<String, GuestPath>,
}

impl Reported {
    /// Reads `/work/result.json`. Returns the default if the file does not exist.
    pub(super) fn from_file(directory: Option<&StepDirectory>) -> Result<Self, StepError> {
        let Some(directory) = directory else {
            return Ok(Self::default());
        };
        let file = directory
            .read(RESULT_FILE, MAX_RESULT_FILE)
            .map_err(malformed_file)?;
        let Some(bytes) = file else {
            return Ok(Self::default());
        };
        let file: ResultFile<'_> = serde_json::from_slice(&bytes).map_err(malformed_file)?;
        file.into_reported()
            .map_err(|error| malformed_file(error.0))
    }

    /// Reads the value that `run` of the step world returned.
    pub(super) fn from_return(returned: step_types::Outcome) -> Result<Self, StepError> {
        let reported = Self {
            message: returned.message,
            result: returned.result,
            ..Self::default()
        };
        let parameters = returned
            .parameters
            .into_iter()
            .map(|parameter| (parameter.name, parameter.value));
        let artifacts = returned
            .artifacts
            .into_iter()
            .map(|artifact| (artifact.name, artifact.path));
        let reported = reported.with_outputs(parameters, artifacts);
        reported.map_err(|error| malformed("the module returned a malformed outcome", error.0))
    }

    fn with_outputs(
        mut self,
        parameters: impl Iterator<Item = (String, String)>,
        artifacts: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Malformed> {
        for (name, value) in parameters {
            if !is_parameter_name(&name) {
                let shown = first_bytes(&name, 80);
                return Err(Malformed(format!("`{shown}` cannot be a parameter's name")));
            }
            self.parameters.insert(name, value);
            self.check_number()?;
        }
        for (name, path) in artifacts {
            if !is_artifact_name(&name) {
                let shown = first_bytes(&name, 80);
                return Err(Malformed(format!("`{shown}` cannot be an artifact's name")));
            }
            if name == LOG_ARTIFACT {
                return Err(Malformed(format!(
                    "the artifact's name `{name}` is reserved for the log of the step; choose another name"
                )));
            }
            let path = path
                .parse()
                .map_err(|error| Malformed(format!("artifact `{name}`: {error}")))?;
            self.artifacts.insert(name, path);
            self.check_number()?;
        }
        Ok(self)
    }

    fn check_number(&self) -> Result<(), Malformed> {
        if self.parameters.len() + self.artifacts.len() > MAX_OUTPUTS {
            return Err(Malformed(format!("it has more than {MAX_OUTPUTS} outputs")));
        }
        Ok(())
    }
}

/// The mistake in a report.
#[derive(Debug)]
struct Malformed(String);

fn malformed(what: &str, error: impl Display) -> StepError {
    StepError::failed(Stage::Collect, format!("{what}: {error}"))
}

fn malformed_file(error: impl Display) -> StepError {
    malformed("the module's /work/result.json is malformed", error)
}

/// `/work/result.json`. Names and meaning of the fields are those of the original plugin.
#[derive(Deserialize)]
struct ResultFile<'a> {
    phase: Option<String>,
    message: Option<String>,
    #[serde(borrow)]
    outputs: Option<ResultOutputs<'a>>,
}

#[derive(Default, Deserialize)]
struct ResultOutputs<'a> {
    #[serde(borrow, default)]
    parameters: Option<Vec<ResultParameter<'a>>>,
    #[serde(default)]
    artifacts: Option<Vec<ResultArtifact>>,
}

/// The value stays text. As a tree of values, it would need up to a hundred times the memory.
#[derive(Deserialize)]
struct ResultParameter<'a> {
    name: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct ResultArtifact {
    name: String,
    path: String,
}

impl ResultFile<'_> {
    fn into_reported(self) -> Result<Reported, Malformed> {
        let phase = match self.phase.as_deref() {
            None | Some("") => None,
            Some("Succeeded") => Some(Phase::Succeeded),
            Some("Failed") => Some(Phase::Failed),
            Some(other) => {
                let shown = first_bytes(other, 40);
                return Err(Malformed(format!(
                    "its phase is `{shown}`, and must be `Succeeded` or `Failed`"
                )));
            }
        };
        let outputs = self.outputs.unwrap_or_default();
        let parameters = outputs.parameters.unwrap_or_default();
        let parameters = parameters
            .into_iter()
            .map(|parameter| (parameter.name, text_of(parameter.value)));
        let artifacts = outputs.artifacts.unwrap_or_default();
        let artifacts = artifacts
            .into_iter()
            .map(|artifact| (artifact.name, artifact.path));
        let reported = Reported {
            phase,
            message: self.message,
            ..Reported::default()
        };
        reported.with_outputs(parameters, artifacts)
    }
}

/// The value of a parameter: the content of a string, or the JSON of another value without spaces.
fn text_of(value: &RawValue) -> String {
    let json = value.get();
    if let Ok(text) = serde_json::from_str(json) {
        return text;
    }
    let mut in_string = false;
    let mut is_escaped = false;
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if in_string {
            in_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
        } else if matches!(character, ' ' | '\n' | '\r' | '\t') {
            continue;
        } else {
            in_string = character == '"';
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn with_artifact(name: &str) -> Result<Reported, Malformed> {
        let artifact = (name.to_owned(), "/out/x".to_owned());
        Reported::default().with_outputs(std::iter::empty(), std::iter::once(artifact))
    }

    #[test]
    fn a_module_cannot_report_an_artifact_with_the_name_of_the_log() {
        let error = with_artifact("main-logs").unwrap_err();
        assert!(error.0.contains("is reserved for the log"), "{}", error.0);
        for name in ["main-log", "Main-logs", "my-main-logs"] {
            assert!(with_artifact(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_component_and_a_result_file_obey_the_same_rule() {
        let artifact = step_types::Artifact {
            name: "main-logs".to_owned(),
            path: "/out/x".to_owned(),
        };
        let returned = step_types::Outcome {
            message: None,
            result: None,
            parameters: Vec::new(),
            artifacts: vec![artifact],
        };
        assert!(Reported::from_return(returned).is_err());
        let file = r#"{"outputs":{"artifacts":[{"name":"main-logs","path":"/out/x"}]}}"#;
        let file: ResultFile<'_> = serde_json::from_str(file).unwrap();
        assert!(file.into_reported().is_err());
    }

    #[test]
    fn the_value_of_a_parameter_is_the_string_or_json_without_spaces() {
        let cases = [
            (r#" "a \" b" "#, r#"a " b"#),
            (
                r#" { "b c" : [ 1 , "\\" , " \" " ] } "#,
                r#"{"b c":[1,"\\"," \" "]}"#,
            ),
            (" -1.5e3 ", "-1.5e3"),
            ("null", "null"),
        ];
        for (json, expected) in cases {
            let value: Box<RawValue> = serde_json::from_str(json).unwrap();
            let text = text_of(&value);
            assert_eq!(text, expected);
            let parsed: Value = serde_json::from_str(json).unwrap();
            if !parsed.is_string() {
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), parsed);
            }
        }
    }
}
