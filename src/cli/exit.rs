//! Exit codes.

use std::process::{ExitCode, Termination};

/// What the program's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The step Succeeded, or the command did what it should.
    Succeeded = 0,
    /// The step Failed: the module's fault.
    Failed = 1,
    /// The step ended in Error, or the command could not do what it should.
    Error = 2,
    /// The command line makes no sense (`EX_USAGE` of sysexits.h).
    Usage = 64,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
