//! The log. It goes to standard error; standard output is for data.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat};

/// Reads a level, or a filter such as `info,wasmtime=debug`. A word that is no level would be the name of a part of the program, and
/// everything else silent: that is refused.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    for level in directives.iter().filter(|directive| !directive.contains(['=', '[', ']'])) {
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(format!("`{level}` is not a log level; those are error, warn, info, debug, trace and off"));
        }
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| format!("`{text}` is not a log filter: {error}"))
}

/// Starts logging. Later calls do nothing.
///
/// # Errors
///
/// The level is not one, and not a filter.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = filter(&log.level)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Somebody started it before: then that one logs.
    drop(started);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters() {
        assert_eq!(filter("info \n").unwrap().to_string(), "info");
        assert_eq!(filter("info, wasmtime=debug").unwrap().max_level_hint(), Some(LevelFilter::DEBUG));
        for text in ["", "loud", "info,loud", "a=b=c"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
