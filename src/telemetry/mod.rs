//! The log. It goes to standard error; standard output is for data.

use std::io::{self, IsTerminal, Write};

use crate::config::{Log, LogFormat, log_filter};

/// A line that nobody reads any more is lost, and nothing else: the library would panic about it.
struct Forgiving<W>(W);

impl<W: Write> Write for Forgiving<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).or(Ok(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or(Ok(()))
    }
}

/// Starts logging. Later calls do nothing.
///
/// # Errors
///
/// The level is not one, and not a filter.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = log_filter(&log.level)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Forgiving(io::stderr()))
        .with_ansi(colours);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Somebody started it before: then that one logs.
    drop(started);
    Ok(())
}
