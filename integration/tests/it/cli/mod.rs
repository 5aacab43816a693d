//! The command line.

mod cache;
mod config_check;
mod documents;
mod flags;
mod lint;
mod run;
mod usage;
mod wit;

use std::fmt::Debug;
use std::path::Path;
use std::process::{Command, Output};

use wasm_workflow_integration::executor::program;

/// Runs the program in a directory of its own. The directory is removed when this value is dropped.
pub(crate) struct Cli {
    directory: tempfile::TempDir,
}

impl Cli {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Path of a file in the directory.
    pub(crate) fn at(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the program with these arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Command that starts the program with these arguments. The directory is the working
    /// directory, the home directory, and the first directory of `PATH`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .current_dir(self.directory.path())
            .args(arguments)
            .env("WASM_WORKFLOW_CACHE_DIR", self.at("cache"));
        let path = format!(
            "{}:{}",
            self.directory.path().display(),
            std::env::var("PATH").unwrap()
        );
        command
            .env("HOME", self.directory.path())
            .env("PATH", path)
            .env_remove("DOCKER_CONFIG");
        command.env("WASM_WORKFLOW_SCRATCH_DIR", self.at("scratch"));
        command
    }
}

/// Asserts the exit code, and that standard error contains a text. `case` names the case.
#[track_caller]
pub(crate) fn assert_ended(output: &Output, code: i32, contains: &str, case: &dyn Debug) {
    let shown = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{case:?}: {shown}");
    assert!(shown.contains(contains), "{case:?}: {shown}");
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
