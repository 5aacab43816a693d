//! Removing the directories of steps after their outcomes are reported.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::StepDirectory;
use super::removal::spawn_thread;

/// Number of threads: one directory with very many files must not delay all others.
const THREADS: usize = 2;
/// Number of directories that wait to be removed. When more directories wait, steps wait too:
/// otherwise slow removal would fill the disk.
const WAITING: usize = 64;

/// The threads that remove directories. They end when the cleaner is dropped and all directories
/// are removed.
#[derive(Debug)]
pub struct Cleaner {
    queue: Sender<StepDirectory>,
    /// Number of directories that are not removed yet.
    left: Arc<AtomicUsize>,
}

impl Cleaner {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let (queue, directories) = bounded(WAITING);
        let left = Arc::new(AtomicUsize::new(0));
        for number in 0..THREADS {
            let directories: Receiver<StepDirectory> = directories.clone();
            let left = Arc::clone(&left);
            let remove = move |directory: StepDirectory| {
                directory.remove();
                left.fetch_sub(1, Ordering::Release);
            };
            spawn_thread(format!("cleaner-{number}"), move || {
                directories.into_iter().for_each(remove);
            })?;
        }
        Ok(Self { queue, left })
    }

    /// Removes the directory: at once when the module left few files, otherwise later on another
    /// thread. Blocks while many other directories wait.
    pub fn remove(&self, mut directory: StepDirectory) {
        if directory.remove_plain() {
            return;
        }
        self.left.fetch_add(1, Ordering::Relaxed);
        // The threads receive for as long as the cleaner exists.
        let _ = self.queue.send(directory);
    }

    /// Blocks until all directories are removed.
    pub fn finish(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
