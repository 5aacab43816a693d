//! Where steps' directories are made.
//!
//! ```text
//! <scratch>/lock             held while a process looks for what the dead left
//! <scratch>/process-XXXXXX/  one for each process, with its steps' directories
//!                  └── lock  held while the process lives
//! ```
//!
//! A process that was killed leaves its directory, and the lock in it is nobody's: the next process that comes removes it. Where locks
//! do not work, nothing is taken for dead.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::cleaner;

const PREFIX: &str = "process-";
const LOCK: &str = "lock";
/// What the names of directories begin with that are being removed.
const REMOVED: &str = "removed-";

/// A place for steps' directories. Nothing is made before the first step that needs it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    own: Mutex<Option<Own>>,
}

/// This process's directory.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    _lock: Option<File>,
}

impl Drop for Own {
    fn drop(&mut self) {
        // Steps' directories that are still being removed keep it: then the next process removes the rest.
        if fs::read_dir(&self.path).is_ok_and(|entries| entries.count() <= 1) {
            let _ = fs::remove_file(self.path.join(LOCK));
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl Scratch {
    /// The place at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            own: Mutex::new(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether directories can be made; says what is wrong where none can.
    pub fn check(&self) -> io::Result<()> {
        self.make().map(drop)
    }

    /// Makes an empty directory for a step.
    pub(super) fn make(&self) -> io::Result<TempDir> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = &*own {
            match private_in(&own.path, "step-") {
                // Somebody cleaned up here.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        let own = own.insert(come(&self.path)?);
        private_in(&own.path, "step-")
    }
}

fn private_in(directory: &Path, prefix: &str) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(directory)
}

/// Removes what the dead left, and makes this process's directory.
fn come(scratch: &Path) -> io::Result<Own> {
    fs::create_dir_all(scratch)?;
    // Held to the end: no other process takes a directory whose lock is not held yet for a dead one's.
    let looking = locked(&scratch.join(LOCK));
    match &looking {
        Ok(_) => remove_dead(scratch)?,
        Err(error) => tracing::debug!(%error, "nobody looks for what killed processes left"),
    }
    let path = private_in(scratch, PREFIX)?.keep();
    let lock = locked(&path.join(LOCK));
    if let Err(error) = &lock {
        tracing::warn!(%error, "the scratch directory takes no locks: if this process is killed, its files stay");
    }
    Ok(Own {
        path,
        _lock: lock.ok(),
    })
}

fn remove_dead(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)?.flatten() {
        let (path, name) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if name.starts_with(PREFIX) && is_dead(&path) {
            tracing::info!(directory = %path.display(), "removing what a process that is gone left");
            // Under another name first: whoever ends while removing may have removed the lock already.
            let removed = scratch.join(format!("{REMOVED}{name}"));
            cleaner::remove_left(if fs::rename(&path, &removed).is_ok() {
                removed
            } else {
                path
            });
        } else if name.starts_with(REMOVED) && is_own(&path) {
            cleaner::remove_left(path);
        }
    }
    Ok(())
}

/// Opens the file, makes it if need be, and locks it, unless somebody else has.
fn locked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(NO_FOLLOW);
    let file = options.open(path)?;
    file.try_lock()?;
    Ok(file)
}

/// Whether the directory is one of this user's processes, and nobody holds its lock.
fn is_dead(directory: &Path) -> bool {
    let mut options = OpenOptions::new();
    let lock = options
        .read(true)
        .write(true)
        .custom_flags(NO_FOLLOW)
        .open(directory.join(LOCK));
    is_own(directory) && lock.is_ok_and(|lock| lock.try_lock().is_ok())
}

fn is_own(directory: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    directory
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user)
}

/// A link in the place of a lock leads anywhere.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(scratch: &Path) -> usize {
        fs::read_dir(scratch).unwrap().count()
    }

    #[test]
    fn what_the_dead_left_is_removed_and_what_the_living_have_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = directory.path().join("not/there/yet");
        let dead = scratch.join("process-dead/step-1/deep");
        fs::create_dir_all(&dead).unwrap();
        fs::write(scratch.join("process-dead/lock"), "").unwrap();
        let (living, other) = (Scratch::new(&scratch), Scratch::new(&scratch));
        let step = living.make().unwrap();
        let started = std::time::Instant::now();
        while scratch.join("process-dead").exists() || scratch.join("removed-process-dead").exists()
        {
            assert!(
                started.elapsed().as_secs() < 10,
                "the dead process's directory stays"
            );
            std::thread::yield_now();
        }
        let theirs = other.make().unwrap();
        assert!(
            step.path().is_dir(),
            "another process came, and this one lives"
        );
        assert_eq!(entries(&scratch), 3, "the lock and two processes");
        fs::create_dir(scratch.join("process-of-another-program")).unwrap();
        let third = Scratch::new(&scratch);
        let kept = third.make().unwrap();
        assert!(
            scratch.join("process-of-another-program").exists(),
            "it has no lock of ours"
        );
        assert!(kept.path().is_dir());
        drop((step, theirs));
        drop((living, other));
        assert_eq!(
            entries(&scratch),
            3,
            "the lock, the third, and what is not ours"
        );
    }

    #[test]
    fn comes_again_when_everything_was_removed() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path().join("scratch"));
        drop(scratch.make().unwrap());
        fs::remove_dir_all(scratch.path()).unwrap();
        assert!(scratch.make().unwrap().path().is_dir());
    }
}
