//! A command that does nothing.

fn main() {}
