//! Opens files and never closes them, then waits.

use std::fs::File;

fn main() {
    let mut open = Vec::new();
    while let Ok(file) = File::create(format!("/tmp/{}", open.len())) {
        open.push(file);
    }
    println!("{}", open.len());
}
