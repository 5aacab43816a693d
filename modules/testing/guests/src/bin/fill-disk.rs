//! Writes into its directory for ever: one large file, or with the argument `entries`, many empty ones.

use std::fs::File;
use std::io::Write;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("entries") {
        for number in 0u64.. {
            let _ = File::create(format!("/tmp/{number}"));
        }
    }
    let mut file = File::create("/tmp/large").unwrap();
    loop {
        let _ = file.write_all(&[1; 1 << 16]);
    }
}
