//! The log: one line for each event, to standard error. Standard output is for data.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tracing_subscriber::fmt::format::JsonFields;

use super::json::JsonLines;
use super::queue::LogQueue;
use super::text;
use crate::config::{Log, LogFilterError, LogFormat};

/// Maximum time that the end of the program waits for the reader of the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the log is written. Errors are ignored: if the reader of the log is gone, its lines are
/// lost. The logging library would report the error to standard error, and panic.
#[derive(Clone)]
enum Destination {
    /// Standard error. A write waits for a slow reader.
    StandardError,
    /// A queue before standard error. A write never waits.
    Queue(LogQueue),
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::StandardError => io::stderr().write(bytes).or(Ok(bytes.len())),
            Self::Queue(queue) => {
                queue.push(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The queue of the log. Dropping the value waits until the queue is written, but at most one
/// second.
#[derive(Debug)]
pub struct LogGuard(Option<LogQueue>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.flush(FLUSH_TIMEOUT);
        }
    }
}

/// Starts the log with a format and a level. Further calls in the same process change nothing.
///
/// # Errors
///
/// The level is neither a level nor a filter.
pub fn start(log: &Log) -> Result<(), LogFilterError> {
    start_with(log, Destination::StandardError)
}

/// Starts the log like [`start`], with a queue: no thread waits for a slow reader of the log. Lines
/// that do not fit into the queue are lost, and the log says how many.
///
/// # Errors
///
/// The level is neither a level nor a filter.
pub fn start_queued(log: &Log) -> Result<LogGuard, LogFilterError> {
    // Without the thread of the queue, the log still works.
    let queue = LogQueue::start(io::stderr()).ok();
    let destination = queue
        .clone()
        .map_or(Destination::StandardError, Destination::Queue);
    start_with(log, destination)?;
    Ok(LogGuard(queue))
}

fn start_with(log: &Log, destination: Destination) -> Result<(), LogFilterError> {
    let filter = log.filter()?;
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || destination.clone())
        .with_ansi(colours);
    let started = match log.format {
        LogFormat::Text => builder.fmt_fields(text::fields()).try_init(),
        LogFormat::Json => builder
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines)
            .try_init(),
    };
    // An error says that the log was started before. That log continues.
    drop(started);
    Ok(())
}
