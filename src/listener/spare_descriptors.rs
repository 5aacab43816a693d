//! Descriptors that a listener keeps for new connections.
//!
//! Guests and transfers can use all descriptors of the process. Then the listener closes one of its
//! spare descriptors, and can accept a connection. The listener opens the spare descriptor again
//! when a connection ends, and tries this every second.

use std::fs::File;
use std::sync::Arc;

use parking_lot::Mutex;

/// The spare descriptors of one listener. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct SpareDescriptors {
    number: usize,
    open: Arc<Mutex<Vec<File>>>,
}

impl SpareDescriptors {
    /// Opens `number` descriptors.
    pub(super) fn new(number: usize) -> Self {
        let this = Self {
            number,
            open: Arc::default(),
        };
        this.refill();
        this
    }

    /// Closes one descriptor. Returns whether there was one.
    pub(super) fn release(&self) -> bool {
        self.open.lock().pop().is_some()
    }

    /// Opens the closed spare descriptors again, as many as the process can open.
    pub(super) fn refill(&self) {
        let mut open = self.open.lock();
        while open.len() < self.number {
            match File::open("/dev/null") {
                Ok(file) => open.push(file),
                Err(_) => return,
            }
        }
    }
}
