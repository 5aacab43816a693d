//! Making a step's directory, looking into it, and removing it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use tempfile::TempDir;

use super::{Scratch, cleaner, work_input};
use crate::step::{GuestPath, Stage, Step, StepError};

/// A step's directory. Given to the cleaner when the step is over; dropping it removes it too, on a thread made for that.
#[derive(Debug)]
pub struct StepDirectory {
    path: PathBuf,
    root: Arc<Dir>,
    kept: Option<TempDir>,
}

impl Drop for StepDirectory {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            cleaner::remove_left(kept.keep());
        }
    }
}

impl StepDirectory {
    /// Makes the directory in `scratch`, ready for the inputs.
    pub fn create(scratch: &Scratch, step: &Step) -> Result<Self, StepError> {
        let create = || -> io::Result<Self> {
            let kept = scratch.make()?;
            lay_out(kept.path(), step)?;
            let root = Dir::open_ambient_dir(kept.path(), ambient_authority())?;
            Ok(Self {
                path: kept.path().to_owned(),
                root: Arc::new(root),
                kept: Some(kept),
            })
        };
        create().map_err(|error| unwritable(scratch.path(), error))
    }

    /// A directory beside it, on the same file system, where inputs are until they are whole.
    pub(super) fn incoming(&self) -> Result<Incoming, StepError> {
        let beside = self.path.parent().unwrap_or(&self.path);
        Incoming::in_directory(beside).map_err(|error| unwritable(beside, error))
    }

    /// Tells the module what it got, once the inputs are there.
    pub fn introduce(&self, step: &Step) -> Result<(), StepError> {
        introduce(&self.root, step).map_err(|error| unwritable(&self.path, error))
    }

    /// Where it is on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, which nothing opened relative to it leaves.
    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// Removes the directory here and now, which takes a stack as deep as it is.
    pub(super) fn remove(mut self) {
        if let Some(Err(error)) = self.kept.take().map(TempDir::close) {
            tracing::warn!(%error, "a step's directory could not be removed");
        }
    }

    /// Removes the directory if the module left no more in it than most do: a few calls, where looking into everything takes many.
    /// `false` when more is there, and nothing but that.
    pub(super) fn remove_plain(&mut self) -> bool {
        for file in ["work/input.json", "work/result.json"] {
            let _ = self.root.remove_file(file);
        }
        let directories = ["work/artifacts-in", "work/artifacts-out", "work", "tmp"];
        let removed = directories
            .iter()
            .all(|directory| self.root.remove_dir(directory).is_ok());
        let removed = removed && fs::remove_dir(&self.path).is_ok();
        if removed && let Some(kept) = self.kept.take() {
            let _ = kept.keep();
        }
        removed
    }

    /// The content of a regular file of at most `limit` bytes. `None` when there is none.
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

    /// Whether there is a file or directory.
    pub fn contains(&self, path: &GuestPath) -> bool {
        self.root
            .metadata(path.relative())
            .is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
    }

    /// Whether there is a link at `path`, wherever it leads.
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
            "the step's directory cannot be made in `{}`: {error}",
            scratch.display()
        ),
    )
    .hint("the operator can choose another place with --scratch-dir")
    .retryable(true)
    .caused_by(error)
}

fn lay_out(root: &Path, step: &Step) -> io::Result<()> {
    let work = root.join("work");
    fs::create_dir(root.join("tmp"))?;
    fs::create_dir(&work)?;
    let left = work.join("artifacts-out");
    fs::create_dir(&left)?;
    for input in &step.inputs {
        make_parent(root, &input.path)?;
    }
    for output in &step.output_artifacts {
        make_parent(root, &output.path)?;
        make_parent(&left, &output.path)?;
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

/// The inputs that are there, as modules of the `/work` contract find them. What is in them is not trusted: nothing is opened but by way of the root.
fn introduce(root: &Dir, step: &Step) -> io::Result<()> {
    let linked = Path::new("work/artifacts-in");
    root.create_dir(linked)?;
    let mut inputs: Vec<_> = step
        .inputs
        .iter()
        .filter(|input| input.content.is_some())
        .collect();
    inputs.sort_by_key(|input| input.path.relative().len());
    for input in inputs {
        let link = linked.join(input.path.relative());
        // What is inside another is there by way of that.
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
    file.write_all(&serde_json::to_vec(&work_input(step))?)
}

/// Where inputs are until they are whole. Removed with what is left in it.
#[derive(Debug)]
pub(super) struct Incoming {
    root: Arc<Dir>,
    kept: Option<TempDir>,
}

impl Incoming {
    fn in_directory(beside: &Path) -> io::Result<Self> {
        let kept = tempfile::Builder::new()
            .prefix("incoming-")
            .tempdir_in(beside)?;
        let root = Dir::open_ambient_dir(kept.path(), ambient_authority())?;
        Ok(Self {
            root: Arc::new(root),
            kept: Some(kept),
        })
    }

    pub(super) fn root(&self) -> &Arc<Dir> {
        &self.root
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        // Nearly always nothing is left.
        if fs::remove_dir(kept.path()).is_ok() {
            let _ = kept.keep();
        } else {
            cleaner::remove_left(kept.keep());
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
