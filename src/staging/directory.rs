//! Making a step's directory, looking into it, and removing it.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tempfile::TempDir;

use super::{GuestPath, work_input};
use crate::step::{Stage, Step, StepError};

/// A step's directory. Dropping it removes it, which blocks.
#[derive(Debug)]
pub struct StepDirectory {
    path: PathBuf,
    root: Arc<Dir>,
    /// Last, so that everything else is closed before it goes.
    kept: Option<TempDir>,
}

impl Drop for StepDirectory {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.kept.take().map(TempDir::close) {
            tracing::warn!(%error, "a step's directory could not be removed");
        }
    }
}

impl StepDirectory {
    /// Makes the directory in `scratch`, with everything in it that needs no transfer.
    pub fn create(scratch: &Path, step: &Step) -> Result<Self, StepError> {
        let kept = make_in(scratch).map_err(|error| unwritable(scratch, error))?;
        lay_out(kept.path(), step).map_err(|error| unwritable(scratch, error))?;
        let root =
            Dir::open_ambient_dir(kept.path(), ambient_authority()).map_err(|error| unwritable(scratch, error))?;
        Ok(Self { path: kept.path().to_owned(), root: Arc::new(root), kept: Some(kept) })
    }

    /// Where it is on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, which nothing opened relative to it leaves.
    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// The content of a regular file of at most `limit` bytes. `None` when there is none.
    pub fn read(&self, relative: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.root.open(relative) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
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
        self.root.metadata(path.relative()).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
    }
}

fn unwritable(scratch: &Path, error: io::Error) -> StepError {
    StepError::error(Stage::StageIn, format!("the step's directory cannot be made in `{}`: {error}", scratch.display()))
        .hint("the operator can choose another place with --scratch-dir")
        .retryable(true)
        .caused_by(error)
}

fn make_in(scratch: &Path) -> io::Result<TempDir> {
    let make =
        || tempfile::Builder::new().prefix("step-").permissions(Permissions::from_mode(0o700)).tempdir_in(scratch);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(scratch)?;
            make()
        }
        made => made,
    }
}

fn lay_out(root: &Path, step: &Step) -> io::Result<()> {
    let work = root.join("work");
    fs::create_dir(root.join("tmp"))?;
    fs::create_dir(&work)?;
    let (linked, left) = (work.join("artifacts-in"), work.join("artifacts-out"));
    fs::create_dir(&linked)?;
    fs::create_dir(&left)?;
    for input in &step.inputs {
        make_parent(root, &input.path)?;
        if input.content.is_some() {
            make_parent(&linked, &input.path)?;
            let up = "../".repeat(2 + input.path.relative().matches('/').count());
            symlink(format!("{up}{}", input.path.relative()), linked.join(input.path.relative()))?;
        }
    }
    for output in &step.output_artifacts {
        make_parent(root, &output.path)?;
        make_parent(&left, &output.path)?;
    }
    for path in step.output_parameters.iter().filter_map(|output| output.path.as_ref()) {
        make_parent(root, path)?;
    }
    fs::write(work.join("input.json"), serde_json::to_vec(&work_input(step))?)
}

fn make_parent(root: &Path, path: &GuestPath) -> io::Result<()> {
    if path.parent().is_empty() { Ok(()) } else { fs::create_dir_all(root.join(path.parent())) }
}
