//! Writes to standard output for ever.

use std::io::Write;

fn main() {
    let line = [b'x'; 8192];
    loop {
        let _ = std::io::stdout().write_all(&line);
    }
}
