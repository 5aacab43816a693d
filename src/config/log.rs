//! The section `telemetry`: what the executor logs.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// `telemetry`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// Format and level of the log.
    pub log: Log,
}

/// `telemetry.log`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// Format of each log line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, or a filter such as
    /// `info,wasmtime=debug`. A level is for the crates of this program; the other crates log
    /// warnings and errors.
    pub level: String,
    /// Whether the log has the output of modules.
    pub module_output: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
            module_output: true,
        }
    }
}

impl Log {
    /// The filter that `level` describes.
    ///
    /// # Errors
    ///
    /// `level` has a word that is not a log level, or is not a filter.
    pub fn filter(&self) -> Result<EnvFilter, LogFilterError> {
        filter(&self.level)
    }
}

/// `telemetry.log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// Lines of text, for people.
    #[default]
    Text,
    /// One JSON object for each line, for machines.
    Json,
}

/// Why a text is not a log filter.
#[derive(Debug, thiserror::Error)]
pub enum LogFilterError {
    /// A directive without a target is not a level.
    #[error("`{0}` is not a log level; use error, warn, info, debug, trace or off")]
    Level(String),
    /// The syntax of a filter is wrong.
    #[error("`{filter}` is not a log filter: {source}")]
    Syntax {
        /// The whole filter.
        filter: String,
        /// The error of the parser.
        source: ParseError,
    },
}

/// The beginning of the names of all crates of this program.
const OWN_CRATES: &str = "wasm_workflow_";
/// The level of the other crates, unless the level of this program is higher. The compiler of
/// modules alone writes tens of thousands of lines for a module at `debug`.
const OTHER_CRATES: LevelFilter = LevelFilter::WARN;

/// Parses a level, or a filter such as `info,wasmtime=debug`: directives as in `RUST_LOG`, but a
/// level without a target is for the crates of this program. A later directive replaces an earlier
/// one for the same target, and a longer target wins against a shorter one.
///
/// `EnvFilter` takes an unknown word as the name of a target, and then logs nothing else. So a word
/// alone must be a level.
fn filter(text: &str) -> Result<EnvFilter, LogFilterError> {
    let directives = text.split(',').map(str::trim).map(|directive| {
        if directive.contains(['=', '[', ']']) {
            return Ok(directive.to_owned());
        }
        let level = directive.parse::<LevelFilter>().ok();
        match level.filter(|_| !directive.is_empty()) {
            Some(level) => Ok(format!("{},{OWN_CRATES}={level}", level.min(OTHER_CRATES))),
            None => Err(LogFilterError::Level(directive.to_owned())),
        }
    });
    let directives = directives.collect::<Result<Vec<_>, _>>()?;
    EnvFilter::try_new(directives.join(",")).map_err(|source| LogFilterError::Syntax {
        filter: text.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directives(text: &str) -> Vec<String> {
        let filter = filter(text).unwrap().to_string();
        let mut directives: Vec<String> = filter.split(',').map(str::to_owned).collect();
        directives.sort();
        directives
    }

    #[test]
    fn a_level_is_for_the_crates_of_this_program_and_the_others_log_warnings() {
        assert_eq!(directives("debug \n"), ["warn", "wasm_workflow_=debug"]);
        assert_eq!(directives("TRACE"), ["warn", "wasm_workflow_=trace"]);
        assert_eq!(directives("error"), ["error", "wasm_workflow_=error"]);
        assert_eq!(directives("off"), ["off", "wasm_workflow_=off"]);
    }

    #[test]
    fn a_filter_reaches_the_other_crates_and_parts_of_this_program() {
        assert_eq!(
            directives("info, wasmtime=debug,wasm_workflow_net=trace"),
            [
                "warn",
                "wasm_workflow_=info",
                "wasm_workflow_net=trace",
                "wasmtime=debug"
            ]
        );
        assert_eq!(directives("h2=debug"), ["h2=debug"]);
    }

    #[test]
    fn a_word_that_is_no_level_is_an_error() {
        for text in ["", "loud", "info,loud", "info,", "a=b=c"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
