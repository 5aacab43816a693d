//! Compile workers: processes of this program that compile untrusted modules.
//!
//! A module of a few kilobytes can make the compiler use all memory of a machine, or run for days.
//! The executor cannot end a thread that compiles, and cannot limit its memory. With a process, the
//! executor can do both. So this process never parses, validates or compiles the bytes of a module
//! itself.
//!
//! ```text
//! executor                                          worker (one for each compilation)
//! queue: share of memory and cores
//! start `/proc/self/exe compile-worker`  ─────────▶ sandbox: limits, no files, no network
//! job and module                         ──stdin──▶ read, inspect, compile, validate
//! store the code                         ◀─stdout── reply, machine code
//! kill at the time limit, or when no step waits
//! ```
//!
//! | file | process | contents |
//! |---|---|---|
//! | `protocol` | both | the messages on the pipes |
//! | `process` | executor | starts one worker, talks to it, and finds out how it ended |
//! | `queue`, `large_attempts` | executor | admits workers within the shares of memory and cores |
//! | `child` | worker | its main function |
//!
//! [`crate::sandbox`] starts the worker process, and takes its access to files, networks and most
//! system calls away.
//!
//! A worker protects the memory and the time of the executor. A worker does not protect against a
//! compiler that produces wrong code: the executor runs the machine code that the worker returns.

mod child;
mod large_attempts;
mod process;
mod protocol;
mod queue;

pub use child::main;
pub(super) use process::Failure;
pub use queue::Classes;
pub(super) use queue::{Request, WorkerResources, Workers};

/// The hidden command that runs a worker.
pub const COMMAND: &str = "compile-worker";
