//! Making, reading and removing the directory of a step.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use tempfile::TempDir;

use super::{Scratch, WorkInput, removal};
use crate::step::{GuestPath, Stage, Step, StepError};

/// The directory of a step. The [`Cleaner`](super::Cleaner) removes the directory after the step. A
/// directory that is dropped without the cleaner is removed on a thread of its own.
#[derive(Debug)]
pub struct StepDirectory {
    path: PathBuf,
    root: Arc<Dir>,
    /// `None` when the directory is already removed.
    temporary: Option<TempDir>,
}

impl Drop for StepDirectory {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            removal::remove_in_background(temporary.keep());
        }
    }
}

impl StepDirectory {
    /// Makes the directory in `scratch`, with the parent directories of all inputs and outputs.
    pub fn create(scratch: &Scratch, step: &Step) -> Result<Self, StepError> {
        let create = || -> io::Result<Self> {
            let temporary = scratch.make()?;
            lay_out(temporary.path(), step)?;
            let root = Dir::open_ambient_dir(temporary.path(), ambient_authority())?;
            Ok(Self {
                path: temporary.path().to_owned(),
                root: Arc::new(root),
                temporary: Some(temporary),
            })
        };
        create().map_err(|error| unwritable(scratch.path(), error))
    }

    /// A new directory on the same file system, for inputs that are not complete yet.
    pub(super) fn incoming(&self) -> Result<Incoming, StepError> {
        let beside = self.path.parent().unwrap_or(&self.path);
        Incoming::in_directory(beside).map_err(|error| unwritable(beside, error))
    }

    /// Writes `/work/input.json` and the links in `/work/artifacts-in`. Call this when all inputs
    /// are in the directory.
    pub(super) fn introduce(&self, step: &Step) -> Result<(), StepError> {
        introduce(&self.root, step).map_err(|error| unwritable(&self.path, error))
    }

    /// Path of the directory on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory. Files that are opened relative to it cannot be outside of it.
    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// Removes the directory on this thread. Needs one stack frame for each level of the directory.
    pub(super) fn remove(mut self) {
        if let Some(Err(error)) = self.temporary.take().map(TempDir::close) {
            tracing::warn!(%error, "cannot remove the directory of a step");
        }
    }

    /// Removes the directory if the module left no other files than those of the layout. This takes
    /// a few system calls; listing the directory would take many. Returns `false` when other files
    /// exist; these files are left.
    pub(super) fn remove_plain(&mut self) -> bool {
        for file in ["work/input.json", "work/result.json"] {
            let _ = self.root.remove_file(file);
        }
        let directories = ["work/artifacts-in", "work/artifacts-out", "work", "tmp"];
        let removed = directories
            .iter()
            .all(|directory| self.root.remove_dir(directory).is_ok());
        let removed = removed && fs::remove_dir(&self.path).is_ok();
        if removed && let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
        removed
    }

    /// Content of a regular file. `None` when the file does not exist. A file of more than `limit`
    /// bytes is an error.
    pub fn read(&self, relative: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.root.open(relative) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Whether a file or a directory exists at `path`.
    pub fn contains(&self, path: &GuestPath) -> bool {
        self.root
            .metadata(path.relative())
            .is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
    }

    /// Whether there is a symbolic link at `path`, with or without a target.
    pub fn is_link(&self, path: &GuestPath) -> bool {
        self.root
            .symlink_metadata(path.relative())
            .is_ok_and(|metadata| metadata.is_symlink())
    }
}

fn unwritable(scratch: &Path, error: io::Error) -> StepError {
    StepError::error(
        Stage::StageIn,
        format!(
            "the step's directory cannot be created in `{}`: {error}",
            scratch.display()
        ),
    )
    .with_hint("ask the operator to choose another directory with --scratch-dir")
    .caused_by(error)
}

/// Makes the directories that exist before the inputs.
fn lay_out(root: &Path, step: &Step) -> io::Result<()> {
    let work = root.join("work");
    fs::create_dir(root.join("tmp"))?;
    fs::create_dir(&work)?;
    let second = work.join("artifacts-out");
    fs::create_dir(&second)?;
    for input in &step.inputs {
        make_parent(root, &input.path)?;
    }
    for output in &step.output_artifacts {
        make_parent(root, &output.path)?;
        make_parent(&second, &output.path)?;
    }
    for path in step
        .output_parameters
        .iter()
        .filter_map(|output| output.path.as_ref())
    {
        make_parent(root, path)?;
    }
    Ok(())
}

/// Makes the links and `input.json` for modules of the `/work` contract. The content of inputs is
/// not trusted, so files are only opened relative to the root.
fn introduce(root: &Dir, step: &Step) -> io::Result<()> {
    let linked = Path::new("work/artifacts-in");
    root.create_dir(linked)?;
    // An outer input before the inputs inside it.
    let mut inputs: Vec<_> = step
        .inputs
        .iter()
        .filter(|input| input.content.is_some())
        .collect();
    inputs.sort_by_key(|input| input.path.relative().len());
    for input in inputs {
        let link = linked.join(input.path.relative());
        // An input inside another input is visible through the link to the outer input.
        if root.symlink_metadata(&link).is_ok() {
            continue;
        }
        root.create_dir_all(link.parent().unwrap_or(linked))?;
        let up = "../".repeat(2 + input.path.relative().matches('/').count());
        root.symlink(format!("{up}{}", input.path.relative()), link)?;
    }
    let mut file = root.open_with(
        "work/input.json",
        OpenOptions::new().write(true).create_new(true),
    )?;
    file.write_all(&serde_json::to_vec(&WorkInput::of(step))?)
}

/// A directory for inputs that are not complete yet. Removed with its content when it is dropped.
#[derive(Debug)]
pub(super) struct Incoming {
    root: Arc<Dir>,
    /// `None` while the directory is dropped.
    temporary: Option<TempDir>,
}

impl Incoming {
    fn in_directory(beside: &Path) -> io::Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("incoming-")
            .tempdir_in(beside)?;
        let root = Dir::open_ambient_dir(temporary.path(), ambient_authority())?;
        Ok(Self {
            root: Arc::new(root),
            temporary: Some(temporary),
        })
    }

    pub(super) fn root(&self) -> &Arc<Dir> {
        &self.root
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(temporary) = self.temporary.take() else {
            return;
        };
        // After most steps the directory is empty.
        if fs::remove_dir(temporary.path()).is_ok() {
            let _ = temporary.keep();
        } else {
            removal::remove_in_background(temporary.keep());
        }
    }
}

fn make_parent(root: &Path, path: &GuestPath) -> io::Result<()> {
    if path.parent().is_empty() {
        Ok(())
    } else {
        fs::create_dir_all(root.join(path.parent()))
    }
}
