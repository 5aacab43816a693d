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

/// The streams of the module, which the terminal already shows.
pub(super) struct Terminal<'a> {
    pub(super) stdout: &'a str,
    pub(super) stderr: &'a str,
}

/// Prints result, parameters, artifacts and phase of a step to standard error. A text that the
/// terminal already shows is not printed again.
pub(super) fn report(outcome: &Outcome, terminal: &Terminal<'_>, outputs: &Outputs<'_>) {
    let printed = terminal.stdout;
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
    let message = without_repetition(&outcome.message, terminal.stderr);
    output::eprint(&format!("{:?}{code}: {message}", outcome.phase));
}

/// The message of an outcome without the lines of standard error that the terminal already shows,
/// except the last line. In a traceback, the last line is the error.
fn without_repetition(message: &str, stderr: &str) -> String {
    let (body, suffix) = match message.rfind(" (module ") {
        Some(at) => message.split_at(at),
        None => (message, ""),
    };
    let stderr = stderr.trim();
    let repeated = body
        .char_indices()
        .map(|(at, _)| body.split_at(at))
        .find(|(_, tail)| stderr.ends_with(tail));
    match repeated {
        Some((head, tail)) if tail.contains('\n') => {
            let last = tail.lines().last().unwrap_or_default().trim();
            format!("{head}{last}{suffix}")
        }
        _ => message.to_owned(),
    }
}

/// Says that parameters of the command line did not reach a command.
pub(super) fn note_unread(unread: &[String]) {
    for name in unread {
        output::eprint(&format!(
            "note: the parameter `{name}` does not reach the module: no argument, variable or \
             standard input refers to it, and the module does not name `/work/input.json`\n\
             hint: write `-- ARGUMENT`, or in a template `args: [\"{{{{inputs.parameters.{name}}}}}\"]`"
        ));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_the_terminal_shows_are_not_repeated() {
        let traceback =
            "Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: x\n";
        for (message, stderr, expected) in [
            (
                "exit code 1: Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: x (module sha256:1)",
                traceback,
                "exit code 1: ValueError: x (module sha256:1)",
            ),
            // Standard error was longer than the message.
            (
                "exit code 1: e \"a.py\", line 1\nValueError: x (module sha256:1)",
                traceback,
                "exit code 1: ValueError: x (module sha256:1)",
            ),
            (
                "exit code 64: usage: count (module sha256:1)",
                "usage: count\n",
                "exit code 64: usage: count (module sha256:1)",
            ),
            // The module's own message is no repetition.
            (
                "first\nsecond (module sha256:1)",
                "other\n",
                "first\nsecond (module sha256:1)",
            ),
            ("resized", "", "resized"),
        ] {
            assert_eq!(without_repetition(message, stderr), expected);
        }
    }
}
