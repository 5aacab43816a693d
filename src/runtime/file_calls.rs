//! Where the file calls of a module run.

/// The thread that executes the file calls of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileCalls {
    /// The guest's own thread. Guests run on threads that may block, so a file call needs no second
    /// thread.
    OnGuestThread,
    /// Another thread, in parts of at most 64 KiB. The guest's thread waits, and a limit can end
    /// this wait.
    ///
    /// In WASI 0.3, a guest can connect two files with a stream. The host then copies one file to
    /// the other without the guest. On the guest's own thread, no limit could end this copy before
    /// the end of the file. A sparse file can have any length.
    OnAnotherThread,
}
