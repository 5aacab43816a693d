//! Opens files without closing them until opening fails. Then prints their number.

use std::fs::File;

fn main() {
    let mut open = Vec::new();
    while let Ok(file) = File::create(format!("/tmp/{}", open.len())) {
        open.push(file);
    }
    println!("{}", open.len());
}
