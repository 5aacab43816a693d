//! A queue of log lines, and the thread that writes them.
//!
//! A pipe or a terminal whose reader is slow blocks its writer. The threads of the program must not
//! wait for the log, so they only append to the queue. The size of the queue is limited, and lines
//! that do not fit are lost. The log says how many.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Maximum size of the queue, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Memory that the queue keeps when it is empty, in bytes.
const KEPT_BYTES: usize = 64 << 10;

/// The queue. Clones share one queue.
#[derive(Clone)]
pub(super) struct LogQueue(Arc<Shared>);

impl fmt::Debug for LogQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogQueue").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when the thread has something to write.
    filled: Condvar,
    /// Notified when the thread has written everything.
    written: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Number of lines that did not fit, since the log last named the number.
    lost_lines: u64,
    /// Whether the thread is writing.
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread, which writes to `output` as long as the process lives.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Self(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || shared.write_all(output))?;
        Ok(queue)
    }

    /// Appends a line. Never waits for the reader of the log.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.bytes.len() + line.len() > MAX_BYTES {
            state.lost_lines += 1;
            return;
        }
        state.bytes.extend_from_slice(line);
        if !state.is_writing {
            self.0.filled.notify_one();
        }
    }

    /// Waits until everything is written, but at most for this time.
    pub(super) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut state = self.0.state.lock();
        while state.is_writing || !state.bytes.is_empty() {
            if self.0.written.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn write_all(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        loop {
            let lost_lines = self.next_batch(&mut batch);
            if lost_lines > 0 {
                // This line goes into the queue, which has room now.
                tracing::warn!(
                    lines = lost_lines,
                    "log lines were lost, because the reader of standard error is too slow"
                );
            }
            // If the reader is gone, the lines are lost.
            let _ = output.write_all(&batch);
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
        }
    }

    /// Waits for lines, and moves them into `batch`, which is empty. Returns the number of lines
    /// that were lost before.
    fn next_batch(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.is_writing = false;
        while state.bytes.is_empty() {
            self.written.notify_all();
            self.filled.wait(&mut state);
        }
        state.is_writing = true;
        std::mem::swap(&mut state.bytes, batch);
        std::mem::take(&mut state.lost_lines)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes one batch for each message.
    struct SlowReader {
        read: mpsc::Receiver<()>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for SlowReader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.read.recv().map_err(io::Error::other)?;
            self.text.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (send, read) = mpsc::channel();
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let reader = SlowReader {
            read,
            text: Arc::clone(&text),
        };
        let queue = LogQueue::start(reader).unwrap();
        let lines: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            queue.push(line.as_bytes());
            let _ = send.send(());
        }
        queue.flush(Duration::from_mins(1));
        assert_eq!(
            String::from_utf8(text.lock().clone()).unwrap(),
            lines.concat()
        );
    }

    /// The reader reads nothing, so a queue that waited for it would wait for ever.
    #[test]
    fn a_writer_does_not_wait_for_the_reader_and_lost_lines_are_counted() {
        let (_send, read) = mpsc::channel();
        let text = Arc::default();
        let queue = LogQueue::start(SlowReader { read, text }).unwrap();
        let line = vec![b'x'; 1 << 10];
        queue.push(&line);
        while !queue.0.state.lock().is_writing {
            std::thread::yield_now();
        }
        for _ in 0..3 * MAX_BYTES / line.len() {
            queue.push(&line);
        }
        queue.flush(Duration::from_millis(10));
        let state = queue.0.state.lock();
        assert!(state.lost_lines > 0 && state.bytes.len() <= MAX_BYTES);
    }
}
