//! Writing to the terminal. An error is ignored, because it means that the reader is gone.

use std::io::{self, Write};

/// Writes data to standard output.
pub(super) fn data(text: &str) {
    data_bytes(text.as_bytes());
}

/// Writes data to standard output, and flushes it.
pub(super) fn data_bytes(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// Writes a message and a newline to standard error.
pub(super) fn eprint(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Writes bytes to standard error.
pub(super) fn eprint_bytes(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}
