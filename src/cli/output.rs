//! Writing to the terminal. An error is ignored, because it means that the reader is gone.

use std::io::{self, Write};

use crate::text::is_unprintable;

/// Writes data to standard output.
pub(super) fn data(text: &str) {
    data_bytes(text.as_bytes());
}

/// Writes data to standard output, and flushes it.
pub(super) fn data_bytes(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// Writes a message and a newline to standard error. A message can contain texts of modules and
/// servers, so unprintable characters are escaped, except line feeds and tabs.
pub(super) fn eprint(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(message));
}

fn printable(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '\n' | '\t' => text.push(c),
            c if is_unprintable(c) => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

/// Writes bytes to standard error.
pub(super) fn eprint_bytes(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_control_the_terminal() {
        assert_eq!(
            printable("a\n\tb\u{1b}[2J\r\u{202e}ä"),
            "a\n\tb\\u{1b}[2J\\r\\u{202e}ä"
        );
    }
}
