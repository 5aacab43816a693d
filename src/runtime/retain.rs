//! Where compiled code may be stored.

/// Where compiled code may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retain {
    /// In memory, and in the code directory for later processes.
    OnDisk,
    /// Only in memory.
    InMemory,
}
