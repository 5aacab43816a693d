//! The ways in which a module can be run.

/// How a module is run. The module's exports decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WASI 0.1 core module with `_start`.
    CoreCommand,
    /// A component that exports `wasi:cli/run` of WASI 0.2.
    Command,
    /// A component that exports `wasi:cli/run` of WASI 0.3.
    CommandP3,
    /// A component of the step world.
    Step,
}
