//! Moves content between a store and the directory of a step.
//!
//! The directory is a [`Dir`](cap_std::fs::Dir), which no path and no link leaves. Paths are
//! relative to it.
//!
//! A file is one object. A directory is one archive, or one object for each file, with keys that
//! start with `key/`. Objects have no links and no empty directories, as with Argo's own S3 driver
//! (`workflow/artifacts/s3/s3.go`).
//!
//! A transfer streams: it holds a few chunks of an object in memory, never the whole object. A
//! transfer that fails is repeated from the beginning if the error may pass.

mod disk;
mod download;
mod merge;
mod permissions;
mod unpack;
mod upload;

pub use download::{Download, download};
pub use merge::merge;
pub use permissions::{Mode, set_permissions};
pub use upload::{Upload, Uploaded, upload};

/// Objects of one directory that are transferred at the same time.
const PARALLEL_OBJECTS: usize = 16;
