//! Removing steps' directories when their outcomes are on their way already.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, io};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::StepDirectory;

/// A directory with very many files must not hold up all others.
const THREADS: usize = 2;
/// Directories that wait to be removed. When there are more, steps wait: a disk must not fill because removing is slow.
const WAITING: usize = 64;
/// Address space, not memory: removing a directory takes a frame for each level, and a guest can make a hundred thousand.
const STACK: usize = 256 << 20;

/// The threads that remove directories. They end when this is dropped and everything is removed.
#[derive(Debug)]
pub struct Cleaner {
    queue: Sender<StepDirectory>,
    /// How many are not removed yet.
    left: Arc<AtomicUsize>,
}

impl Cleaner {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let (queue, directories) = bounded(WAITING);
        let left = Arc::new(AtomicUsize::new(0));
        for number in 0..THREADS {
            let (directories, left): (Receiver<StepDirectory>, _) =
                (directories.clone(), Arc::clone(&left));
            let remove = move |directory: StepDirectory| {
                directory.remove();
                left.fetch_sub(1, Ordering::Release);
            };
            thread(format!("cleaner-{number}"), move || {
                directories.into_iter().for_each(remove)
            })?;
        }
        Ok(Self { queue, left })
    }

    /// Removes the directory: at once where that is quick, else later. Blocks while many others wait.
    pub fn remove(&self, mut directory: StepDirectory) {
        if directory.remove_plain() {
            return;
        }
        self.left.fetch_add(1, Ordering::Relaxed);
        // The threads live as long as this.
        let _ = self.queue.send(directory);
    }

    /// Blocks until everything is removed.
    pub fn finish(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Removes a directory that nobody is responsible for any more, later.
pub(super) fn remove_left(path: PathBuf) {
    let removing = move || match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(directory = %path.display(), %error, "it could not be removed");
        }
        _ => {}
    };
    if let Err(error) = thread("cleaner-left".to_owned(), removing) {
        tracing::warn!(%error, "no thread to remove a directory: it stays");
    }
}

fn thread(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
}
