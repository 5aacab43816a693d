//! Why a worker ended before its work was done.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Rust writes this when an allocation fails, and then aborts the process.
const ALLOCATION_FAILED: &str = "memory allocation of ";
/// Rust writes this when a stack overflows, and then aborts the process.
const STACK_OVERFLOW: &str = "has overflowed its stack";
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Why a worker ended before its work was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The worker reached its memory limit.
    Memory,
    /// The worker reached its limit of processor time.
    ProcessorTime,
    /// A stack of the worker was full.
    StackOverflow,
    /// The worker panicked. The text says where and why.
    Panicked(String),
    /// A fault of the worker ended it. The text names the signal.
    Crashed(String),
    /// The system, or another process, killed the worker.
    Killed,
    /// The worker ended in another way. The text says how.
    Other(String),
}

impl Ending {
    /// Finds the reason in the status of the worker, and in its messages (standard error).
    pub fn of(status: ExitStatus, messages: &str) -> Self {
        match status.signal() {
            Some(libc::SIGXCPU) => Self::ProcessorTime,
            Some(libc::SIGKILL) => Self::Killed,
            Some(libc::SIGABRT) if messages.contains(ALLOCATION_FAILED) => Self::Memory,
            Some(libc::SIGABRT) if messages.contains(STACK_OVERFLOW) => Self::StackOverflow,
            Some(signal) => {
                let how = format!("signal {signal} ended it");
                match signal {
                    libc::SIGABRT
                    | libc::SIGBUS
                    | libc::SIGFPE
                    | libc::SIGILL
                    | libc::SIGSEGV
                    | libc::SIGTRAP => Self::Crashed(how),
                    _ => Self::Other(how),
                }
            }
            None if status.code() == Some(PANICKED) => Self::Panicked(first_lines(messages, 2)),
            None if messages.is_empty() => Self::Other(status.to_string()),
            None => Self::Other(first_lines(messages, 1)),
        }
    }
}

/// The first lines that are not empty, as one line.
fn first_lines(messages: &str, number: usize) -> String {
    let lines = messages.lines().filter(|line| !line.is_empty());
    lines.take(number).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_the_exit_code_and_the_messages_tell_the_reason() {
        let signal = |signal| ExitStatus::from_raw(signal);
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        let crashed = |signal| Ending::Crashed(format!("signal {signal} ended it"));
        let panic = "\nthread 'main' panicked at compiler.rs:1:2:\nindex out of bounds\nnote: run";
        let where_and_why = "thread 'main' panicked at compiler.rs:1:2: index out of bounds";
        for (status, messages, expected) in [
            (signal(libc::SIGXCPU), "", Ending::ProcessorTime),
            (signal(libc::SIGKILL), "", Ending::Killed),
            (
                signal(libc::SIGABRT),
                "memory allocation of 8 bytes failed",
                Ending::Memory,
            ),
            (
                signal(libc::SIGABRT),
                "thread 'main' has overflowed its stack",
                Ending::StackOverflow,
            ),
            (signal(libc::SIGABRT), "", crashed(libc::SIGABRT)),
            (signal(libc::SIGSEGV), "", crashed(libc::SIGSEGV)),
            (
                signal(libc::SIGHUP),
                "",
                Ending::Other("signal 1 ended it".to_owned()),
            ),
            (exit(101), panic, Ending::Panicked(where_and_why.to_owned())),
            (
                exit(1),
                "Error: no filters\nmore",
                Ending::Other("Error: no filters".to_owned()),
            ),
        ] {
            assert_eq!(Ending::of(status, messages), expected);
        }
    }
}
