//! The fields of a line in the text format.
//!
//! Messages and fields can contain texts of modules and servers. So control characters are escaped:
//! no text can begin a new line, or control the terminal of a reader.

use std::fmt::{self, Write};

use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

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

/// A writer that escapes control characters.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let (before, from) = rest.split_at(at);
            let mut chars = from.chars();
            let control = chars.next().map(char::escape_default);
            self.0.write_str(before)?;
            control.map_or(Ok(()), |control| write!(self.0, "{control}"))?;
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_characters_stay() {
        let mut text = String::new();
        write!(Escaped(&mut text), "a\nb\r\u{1b}[31m\u{9b}ä\t…\u{7f}").unwrap();
        assert_eq!(text, r"a\nb\r\u{1b}[31m\u{9b}ä\t…\u{7f}");
    }
}
