//! The output of modules in the log: one log line for each line that a module prints.
//!
//! The output is untrusted, so its amount is limited. The log escapes control characters.

use tracing::Level;

use crate::step::{StepNames, step_event};

/// Maximum length of a line in the log, in bytes. The end of a longer line is left out.
const LINE_BYTES: usize = 4 << 10;
/// Maximum number of log lines for each stream of a step.
const LINES: usize = 1000;
/// Maximum length of all log lines for each stream of a step, in bytes.
const TOTAL_BYTES: usize = 64 << 10;

/// One of the two output streams of a module.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Writes one stream of a module to the log. Dropping the value writes the last line, if it has no
/// newline.
///
/// The value allocates nothing until the module prints.
#[derive(Debug)]
pub(super) struct LineLog {
    names: StepNames,
    stream: Stream,
    /// The beginning of the current line.
    line: Vec<u8>,
    /// Length of the end of the current line that is left out, in bytes.
    cut_bytes: u64,
    /// Number and length of the lines in the log.
    logged: Amount,
    /// Number and length of the lines that are left out, and of the ends of long lines.
    left_out: Amount,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    lines: usize,
    bytes: u64,
}

impl LineLog {
    /// `None` if the log shows no lines of the level `info`.
    pub(super) fn new(names: &StepNames, stream: Stream) -> Option<Self> {
        tracing::enabled!(Level::INFO).then(|| Self {
            names: names.clone(),
            stream,
            line: Vec::new(),
            cut_bytes: 0,
            logged: Amount::default(),
            left_out: Amount::default(),
        })
    }

    /// Takes a part of the stream, and writes the lines that are complete.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(end) => {
                    self.append(end);
                    self.end_line();
                }
                None => self.append(part),
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = match self.is_full() {
            true => 0,
            false => LINE_BYTES - self.line.len(),
        };
        let (kept, cut) = bytes.split_at(room.min(bytes.len()));
        self.line.extend_from_slice(kept);
        self.cut_bytes += cut.len() as u64;
    }

    fn end_line(&mut self) {
        let cut_bytes = std::mem::take(&mut self.cut_bytes);
        self.left_out.bytes += cut_bytes;
        if self.is_full() {
            self.leave_out_line();
            return;
        }
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let mut text = String::from_utf8_lossy(line);
        if cut_bytes > 0 {
            // A character that was cut is left out with the rest of the line.
            text = format!("{}…", text.trim_end_matches('\u{fffd}')).into();
        }
        let stream = self.stream.name();
        step_event!(INFO, &self.names, stream, line = &*text, "module output");
        self.logged.lines += 1;
        self.logged.bytes += self.line.len() as u64;
        self.line.clear();
        if self.is_full() {
            self.line = Vec::new();
        }
    }

    fn leave_out_line(&mut self) {
        self.left_out.lines += 1;
        if self.left_out.lines == 1 {
            step_event!(
                INFO,
                &self.names,
                stream = self.stream.name(),
                "further output of the module is left out of the log"
            );
        }
    }

    fn is_full(&self) -> bool {
        self.logged.lines >= LINES || self.logged.bytes >= TOTAL_BYTES as u64
    }
}

impl Drop for LineLog {
    fn drop(&mut self) {
        if !self.line.is_empty() || self.cut_bytes > 0 {
            self.end_line();
        }
        let Amount { lines, bytes } = self.left_out;
        if lines > 0 || bytes > 0 {
            step_event!(
                INFO,
                &self.names,
                stream = self.stream.name(),
                lines,
                bytes,
                "module output left out of the log"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::step::ExecutionId;

    fn stdout() -> LineLog {
        LineLog {
            names: StepNames {
                execution: ExecutionId::new("x"),
                owner: Arc::default(),
            },
            stream: Stream::Stdout,
            line: Vec::new(),
            cut_bytes: 0,
            logged: Amount::default(),
            left_out: Amount::default(),
        }
    }

    #[test]
    fn a_line_may_arrive_in_parts() {
        let mut log = stdout();
        log.write(b"one\ntw");
        assert_eq!((log.logged.lines, &*log.line), (1, &b"tw"[..]));
        log.write(b"o\n\nlast");
        assert_eq!((log.logged.lines, &*log.line), (3, &b"last"[..]));
        assert_eq!(log.left_out, Amount::default());
    }

    #[test]
    fn the_end_of_a_long_line_is_left_out() {
        let mut log = stdout();
        log.write(&[b'x'; LINE_BYTES - 1]);
        log.write(&[b'x'; 11]);
        log.write(b"\nshort\n");
        assert_eq!(log.logged.lines, 2);
        assert_eq!(
            log.left_out,
            Amount {
                lines: 0,
                bytes: 10
            }
        );
    }

    #[test]
    fn lines_beyond_the_limits_are_counted_and_take_no_memory() {
        let mut log = stdout();
        log.write("\n".repeat(LINES + 5).as_bytes());
        assert_eq!((log.logged.lines, log.left_out.lines), (LINES, 5));

        let mut log = stdout();
        let line = format!("{}\n", "x".repeat(1023));
        log.write(line.repeat(100).as_bytes());
        assert!(log.logged.bytes < (TOTAL_BYTES + LINE_BYTES) as u64);
        let all = log.logged.bytes + log.left_out.bytes;
        assert_eq!((all, log.logged.lines + log.left_out.lines), (102_300, 100));
        log.write(&vec![b'x'; 1 << 20]);
        assert_eq!(log.line.capacity(), 0);
    }
}
