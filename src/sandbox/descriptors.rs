//! Closes the descriptors that a worker inherited.
//!
//! All descriptors of the executor are closed when it starts a worker (`O_CLOEXEC`). But the
//! program that started the executor may have left descriptors open. A worker inherits these.
#![allow(
    unsafe_code,
    reason = "no library closes descriptors by number safely; the function explains why this is sound"
)]

use std::io;

/// Closes all descriptors but standard input, standard output and standard error. Call this before
/// the process opens a descriptor.
pub(super) fn close_inherited() -> io::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // The descriptor of this directory is in the list, too. `collect` closes it.
    let inherited: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    for number in inherited {
        // SAFETY: no value of this process owns the descriptor. The process has one thread, and it
        // has opened only the directory, which is closed. Closing a number twice has no effect.
        unsafe {
            libc::close(number);
        }
    }
    Ok(())
}
