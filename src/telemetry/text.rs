//! The fields of a line in the text format.
//!
//! Messages and fields can contain texts of modules, servers and workflows. So unprintable
//! characters are escaped: no text can begin a new line, control the terminal of a reader, or
//! change the order of the line.

use std::fmt::{self, Write};

use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::text::find_unprintable;

/// Formats fields as `the message name=value name=value`.
pub(super) fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(write_field).delimited(" ")
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let name = field.name();
    match name {
        "message" => {}
        // Added by the bridge from the crate `log`. The line has its target already.
        _ if name.starts_with("log.") => return Ok(()),
        _ => write!(writer, "{name}=")?,
    }
    write!(Escaped(writer), "{value:?}")
}

/// A writer that escapes unprintable characters.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = find_unprintable(rest) {
            let (before, from) = rest.split_at(at);
            let mut chars = from.chars();
            let escaped = chars.next().map(char::escape_default);
            self.0.write_str(before)?;
            escaped.map_or(Ok(()), |escaped| write!(self.0, "{escaped}"))?;
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_characters_stay() {
        let mut text = String::new();
        write!(Escaped(&mut text), "a\nb\r\u{1b}[31m\u{9b}ä\t…\u{7f}").unwrap();
        assert_eq!(text, r"a\nb\r\u{1b}[31m\u{9b}ä\t…\u{7f}");
    }

    /// The log of a test.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// Every part of a line that can have a text of strangers: message, fields of the line as text,
    /// as `Display` and as `Debug`, and fields of spans.
    fn write_lines(evil: &str) {
        let span = tracing::info_span!("step", template = evil, execution = %evil);
        let _entered = span.enter();
        tracing::info!("{evil}");
        tracing::info!(text = evil, shown = %evil, debug = ?evil, "message");
        span.record("template", evil);
        tracing::info!("after the span has changed");
    }

    #[test]
    fn no_text_forges_a_line_in_either_format() {
        let evil = "x\n2026-01-01T00:00:00Z  INFO forged\r\u{85}forged\u{2028}forged\u{2029}\u{b}forged\
                    \u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200f}\u{7f}";
        let text = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(text.clone())
            .with_ansi(false)
            .fmt_fields(fields())
            .finish();
        tracing::subscriber::with_default(subscriber, || write_lines(evil));
        let json = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(json.clone())
            .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
            .event_format(super::super::json::JsonLines)
            .finish();
        tracing::subscriber::with_default(subscriber, || write_lines(evil));
        for log in [text, json] {
            let log = String::from_utf8(log.0.lock().clone()).unwrap();
            assert_eq!(log.lines().count(), 3, "{log}");
            let rest = log.chars().filter(|c| *c != '\n');
            assert!(!rest.clone().any(crate::text::is_unprintable), "{log}");
        }
    }
}
