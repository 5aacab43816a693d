//! Says something on standard error, and traps.

fn main() {
    eprintln!("about to trap");
    std::process::abort();
}
