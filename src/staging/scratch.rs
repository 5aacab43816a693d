//! Where steps' directories are made.
//!
//! ```text
//! <scratch>/lock             held while a process comes
//! <scratch>/process-XXXXXX/  one for each process, with its steps' directories
//!                  └── lock  held while the process lives
//! ```
//!
//! A process that was killed leaves its directory, and the lock in it is nobody's: the next process that comes removes it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::cleaner;

const PREFIX: &str = "process-";
const LOCK: &str = "lock";
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// A place for steps' directories. Nothing is made before the first step that needs it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    own: Mutex<Option<Own>>,
    in_memory: AtomicBool,
}

#[derive(Debug)]
struct Own {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// The place at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), own: Mutex::new(None), in_memory: AtomicBool::new(false) }
    }

    /// Whether what is made here is in memory, so that nothing waits for a disk. Known once something was made.
    pub fn in_memory(&self) -> bool {
        self.in_memory.load(Ordering::Relaxed)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty directory for a step.
    pub(super) fn make(&self) -> io::Result<TempDir> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = &*own {
            match private_in(own.directory.path(), "step-") {
                // Somebody cleaned up here.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        let own = own.insert(come(&self.path)?);
        self.in_memory.store(is_memory(own.directory.path()), Ordering::Relaxed);
        private_in(own.directory.path(), "step-")
    }
}

fn private_in(directory: &Path, prefix: &str) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o700)).tempdir_in(directory)
}

/// Removes what the dead left, and makes this process's directory.
fn come(scratch: &Path) -> io::Result<Own> {
    fs::create_dir_all(scratch)?;
    // Until this is let go, no other process takes a directory without a lock for a dead one's.
    let coming = File::create(scratch.join(LOCK))?;
    coming.lock()?;
    for entry in fs::read_dir(scratch)?.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_dead(&path) {
            tracing::info!(directory = %path.display(), "removing what a process that is gone left");
            cleaner::remove_left(path)?;
        }
    }
    let directory = private_in(scratch, PREFIX)?;
    let lock = File::create(directory.path().join(LOCK))?;
    lock.lock()?;
    Ok(Own { directory, _lock: lock })
}

fn is_memory(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|statfs| statfs.f_type == TMPFS)
}

/// Whether nobody holds the directory's lock.
fn is_dead(directory: &Path) -> bool {
    match File::open(directory.join(LOCK)) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

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
        while scratch.join("process-dead").exists() {
            assert!(started.elapsed().as_secs() < 10, "the dead process's directory stays");
            std::thread::yield_now();
        }
        let theirs = other.make().unwrap();
        assert!(step.path().is_dir(), "another process came, and this one lives");
        assert_eq!(entries(&scratch), 3, "the lock and two processes");
        drop(step);
        drop((living, theirs, other));
        assert_eq!(entries(&scratch), 1);
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
