//! The log: one line for each event, to standard error. Standard output is for data.

use std::env;
use std::io::{self, IsTerminal, Write};

use crate::config::{Log, LogFilterError, LogFormat};

/// A writer whose errors are ignored. If the reader of the log is gone, its lines are lost. The
/// logging library would report the error to standard error, and panic.
struct IgnoreErrors<W>(W);

impl<W: Write> Write for IgnoreErrors<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).or(Ok(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or(Ok(()))
    }
}

/// Starts the log with a format and a level. Further calls in the same process change nothing.
///
/// # Errors
///
/// The level is neither a level nor a filter.
pub fn start(log: &Log) -> Result<(), LogFilterError> {
    let filter = log.filter()?;
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| IgnoreErrors(io::stderr()))
        .with_ansi(colours);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // An error says that the log was started before. That log continues.
    drop(started);
    Ok(())
}
