//! Fills the disk without end: with one large file, or with many empty files if the first argument
//! is `entries`.

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
