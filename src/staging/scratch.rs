//! The scratch directory, in which the directories of steps are made.
//!
//! ```text
//! <scratch>/lock             locked while a process looks for stale directories
//! <scratch>/process-XXXXXX/  one for each process, with the directories of its steps
//!                  └── lock  locked while the process lives
//! ```
//!
//! A process that is killed leaves its directory, and the operating system releases the lock in it.
//! The directory is then stale, and the next process that starts here removes it. On a file system
//! without locks no directory is taken for stale.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::removal::remove_in_background;

const PREFIX: &str = "process-";
const LOCK: &str = "lock";
/// Prefix of stale directories that are being removed.
const REMOVED: &str = "removed-";

/// The scratch directory. Nothing is made before the first step that needs a directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    process: Mutex<Option<ProcessDir>>,
}

/// This process's directory in the scratch directory.
#[derive(Debug)]
struct ProcessDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl Drop for ProcessDir {
    fn drop(&mut self) {
        // When directories of steps are still being removed, the next process removes the rest.
        if fs::read_dir(&self.path).is_ok_and(|entries| entries.count() <= 1) {
            let _ = fs::remove_file(self.path.join(LOCK));
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl Scratch {
    /// The scratch directory at `path`. The directory is made when it does not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            process: Mutex::new(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks whether directories can be made, by making one.
    pub fn check(&self) -> io::Result<()> {
        self.make().map(drop)
    }

    /// Makes an empty directory for a step.
    pub(super) fn make(&self) -> io::Result<TempDir> {
        let mut process = self.process.lock();
        if let Some(process) = &*process {
            match private_in(&process.path, "step-") {
                // Another program removed the process's directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        let process = process.insert(register_process(&self.path)?);
        private_in(&process.path, "step-")
    }
}

fn private_in(directory: &Path, prefix: &str) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(directory)
}

/// Removes the directories of processes that are gone, and makes this process's directory.
fn register_process(scratch: &Path) -> io::Result<ProcessDir> {
    fs::create_dir_all(scratch)?;
    // Held until this function returns: a new directory without its lock must not look stale to
    // another process.
    let registering = locked(&scratch.join(LOCK));
    match &registering {
        Ok(_) => remove_stale(scratch)?,
        Err(error) => tracing::debug!(
            %error,
            "cannot lock the scratch directory; leftovers of killed processes are not removed"
        ),
    }
    let path = private_in(scratch, PREFIX)?.keep();
    let lock = locked(&path.join(LOCK));
    if let Err(error) = &lock {
        tracing::warn!(
            %error,
            "cannot lock a file in the scratch directory; \
             if this process is killed, no other process removes its files"
        );
    }
    Ok(ProcessDir {
        path,
        _lock: lock.ok(),
    })
}

/// Removes stale directories in the background.
fn remove_stale(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)?.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && is_stale(&path) {
            let directory = path.display();
            tracing::info!(%directory, "removing the directory of a killed process");
            // Renamed first: a process that ends during the removal may have removed the lock
            // already, and the directory would no longer look stale.
            let removed = scratch.join(format!("{REMOVED}{name}"));
            let renamed = fs::rename(&path, &removed).is_ok();
            remove_in_background(if renamed { removed } else { path });
        } else if name.starts_with(REMOVED) && is_owned(&path) {
            remove_in_background(path);
        }
    }
    Ok(())
}

/// Opens and locks the file, and makes the file when it does not exist. Fails when another process
/// has the lock.
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

/// Whether the directory belongs to this user, and its lock is free.
fn is_stale(directory: &Path) -> bool {
    let mut options = OpenOptions::new();
    let lock = options
        .read(true)
        .write(true)
        .custom_flags(NO_FOLLOW)
        .open(directory.join(LOCK));
    is_owned(directory) && lock.is_ok_and(|lock| lock.try_lock().is_ok())
}

/// Whether `directory` is a directory that belongs to this user.
fn is_owned(directory: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    directory
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user)
}

/// Another user could put a symbolic link to any file in the place of a lock.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(scratch: &Path) -> usize {
        fs::read_dir(scratch).unwrap().count()
    }

    #[test]
    fn stale_directories_are_removed_and_living_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = directory.path().join("not/there/yet");
        let stale = scratch.join("process-stale/step-1/deep");
        fs::create_dir_all(&stale).unwrap();
        fs::write(scratch.join("process-stale/lock"), "").unwrap();
        let first = Scratch::new(&scratch);
        let second = Scratch::new(&scratch);
        let step = first.make().unwrap();
        let started = std::time::Instant::now();
        while scratch.join("process-stale").exists()
            || scratch.join("removed-process-stale").exists()
        {
            assert!(
                started.elapsed().as_secs() < 10,
                "the stale directory is not removed"
            );
            std::thread::yield_now();
        }
        let other_step = second.make().unwrap();
        assert!(
            step.path().is_dir(),
            "registering another process removes no directory that is in use"
        );
        assert_eq!(entries(&scratch), 3, "the lock and two processes");
        fs::create_dir(scratch.join("process-of-another-program")).unwrap();
        let third = Scratch::new(&scratch);
        let third_step = third.make().unwrap();
        assert!(
            scratch.join("process-of-another-program").exists(),
            "a directory without a lock file is not stale"
        );
        assert!(third_step.path().is_dir());
        drop(step);
        drop(other_step);
        drop(first);
        drop(second);
        assert_eq!(
            entries(&scratch),
            3,
            "the lock, the third process, and the directory of another program"
        );
    }

    #[test]
    fn the_process_registers_again_when_its_directory_was_removed() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path().join("scratch"));
        drop(scratch.make().unwrap());
        fs::remove_dir_all(scratch.path()).unwrap();
        assert!(scratch.make().unwrap().path().is_dir());
    }
}
