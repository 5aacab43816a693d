//! Threads that remove directories.

use std::path::PathBuf;
use std::{fs, io};

/// Stack of a thread that removes directories: address space, not memory. Removing a directory
/// takes one stack frame for each level, and a guest can make a hundred thousand levels.
const STACK: usize = 256 << 20;

/// Starts a thread with a stack that is deep enough to remove any directory.
pub(super) fn spawn_thread(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
}

/// Removes a directory on a thread of its own. Returns at once.
pub(super) fn remove_in_background(path: PathBuf) {
    let remove = move || match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(directory = %path.display(), %error, "cannot remove a directory");
        }
        _ => {}
    };
    if let Err(error) = spawn_thread("cleaner-left".to_owned(), remove) {
        tracing::warn!(%error, "cannot start a thread, so a directory is not removed");
    }
}
