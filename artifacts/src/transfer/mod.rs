//! Moving content between a store and a step's directory.
//!
//! The directory is given as a [`Dir`], which no path and no link leaves, and paths are relative to it. A file is one
//! object; a directory is an archive, or one object for each file in it, under `key/`, links and empty directories left out, as Argo's
//! own S3 driver does it (`workflow/artifacts/s3/s3.go`).

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

/// Objects of one directory on their way at once.
const AT_ONCE: usize = 16;
