//! Exit codes of the program.

use std::process::{ExitCode, Termination};

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The step Succeeded, or the command succeeded.
    Succeeded = 0,
    /// The step Failed.
    Failed = 1,
    /// The step ended with Error, or the command failed.
    Error = 2,
    /// The command line or the configuration is invalid (`EX_USAGE` of sysexits.h).
    Usage = 64,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
