//! The command line.

mod cache;
mod config_check;
mod documents;
mod run;
mod usage;

use std::path::Path;
use std::process::{Command, Output};

use wasm_workflow_integration::executor::program;

pub(crate) struct Cli {
    directory: tempfile::TempDir,
}

impl Cli {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// In the directory, which is the home of whoever runs it, and where programs are looked for first.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

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

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
