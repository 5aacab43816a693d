//! Writes to standard error, and then traps.

fn main() {
    eprintln!("about to trap");
    std::process::abort();
}
