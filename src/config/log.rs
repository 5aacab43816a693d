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
    /// `info,wasmtime=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
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

/// Parses a level, or a filter such as `info,wasmtime=debug`.
///
/// `EnvFilter` takes an unknown word as the name of a target, and then logs nothing else. So a word
/// alone must be a level.
fn filter(text: &str) -> Result<EnvFilter, LogFilterError> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    let mut words = directives
        .iter()
        .filter(|directive| !directive.contains(['=', '[', ']']));
    let is_level = |word: &&str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = words.find(|word| !is_level(word)) {
        return Err(LogFilterError::Level((*word).to_owned()));
    }
    EnvFilter::try_new(directives.join(",")).map_err(|source| LogFilterError::Syntax {
        filter: text.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_directives_with_targets() {
        assert_eq!(filter("info \n").unwrap().to_string(), "info");
        assert_eq!(
            filter("info, wasmtime=debug").unwrap().max_level_hint(),
            Some(LevelFilter::DEBUG)
        );
        for text in ["", "loud", "info,loud", "a=b=c"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
