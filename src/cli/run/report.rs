//! Prints the outcome of a step for people.

use std::path::Path;

use artifacts::{Location, Repository};

use crate::cli::output;
use crate::step::Outcome;

/// Where output artifacts are, for the report.
pub(super) enum Outputs<'a> {
    /// In the operator's artifact repository.
    Repository,
    /// In files of this directory.
    Directory(&'a Path),
}

/// Prints result, parameters, artifacts and phase of a step to standard error.
///
/// `printed` is the standard output of the module, which the terminal already shows. A result that
/// is its end is not printed again.
pub(super) fn report(outcome: &Outcome, printed: &str, outputs: &Outputs<'_>) {
    let printed = printed.strip_suffix('\n').unwrap_or(printed);
    let result = outcome.result.as_deref();
    if let Some(result) = result.filter(|result| !printed.ends_with(*result)) {
        output::eprint(&format!("result = {result}"));
    }
    for parameter in &outcome.parameters {
        output::eprint(&format!(
            "parameter {} = {}",
            parameter.name, parameter.value
        ));
    }
    for artifact in &outcome.artifacts {
        let location = location(&artifact.location, outputs);
        output::eprint(&format!("artifact {} -> {location}", artifact.name));
    }
    // Most messages contain the exit code. A message of the module itself may not.
    let code = outcome
        .exit_code
        .filter(|code| *code != 0 && !outcome.message.contains(&format!("exit code {code}")))
        .map(|code| format!(", exit code {code}"))
        .unwrap_or_default();
    output::eprint(&format!("{:?}{code}: {}", outcome.phase, outcome.message));
}

fn location(location: &Location, outputs: &Outputs<'_>) -> String {
    let key = &location.key;
    match (&location.repository, outputs) {
        (Repository::Directory(_), Outputs::Directory(directory)) => {
            directory.join(key).display().to_string()
        }
        (Repository::Directory(directory), Outputs::Repository) => {
            directory.path.join(key).display().to_string()
        }
        (Repository::S3(bucket), _) => format!("s3://{}/{key}", bucket.bucket),
        _ => "its URL".to_owned(),
    }
}
