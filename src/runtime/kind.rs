//! The ways in which a module can be run.

/// How a module is run. The module's exports decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WASI 0.1 core module.
    CoreCommand,
    /// A component that exports `wasi:cli/run` of WASI 0.2.
    Command,
    /// A component that exports `wasi:cli/run` of WASI 0.3.
    CommandP3,
    /// A component of the step world.
    Step,
}

/// Whether an export of a component is `wasi:cli/run` in a release that begins with `version`, such
/// as `0.2.`. A pre-release, such as `0.2.0-rc-2023-12-05`, is another interface.
pub(super) fn is_run_of(export: &str, version: &str) -> bool {
    let found = export.strip_prefix("wasi:cli/run@");
    found.is_some_and(|found| found.starts_with(version) && !found.contains('-'))
}
