//! Writing to the terminal. A reader that has gone away is no error.

use std::io::{self, Write};

/// Data, to standard output.
pub(super) fn data(text: &str) {
    bytes(text.as_bytes());
}

/// Data as it comes, to standard output.
pub(super) fn bytes(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// Talk, to standard error.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Talk as it comes, to standard error.
pub(super) fn say_bytes(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}
