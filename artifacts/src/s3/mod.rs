//! Artifacts in S3, and in servers with the same protocol.
//!
//! The fields have the names and the meaning of Argo's `S3Bucket`
//! (`pkg/apis/workflow/v1alpha1/workflow_types.go`) and of its driver
//! (`workflow/artifacts/s3/s3.go`).

mod checksum;
mod client;
mod credentials;
mod download;
mod encryption;
mod endpoint;
mod errors;
mod listing;
mod location;
mod memory_budget;
mod multipart;
mod parts;
mod range;
mod sdk_http;
mod store;
mod upload;

use tokio_util::task::TaskTracker;

pub(crate) use client::open;
pub use location::{AddressingStyle, CreateBucket, EncryptionOptions, S3Location};

/// State that all S3 stores of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Running transfers, and requests that abort multipart uploads of cancelled transfers.
    pub(crate) cleanup_tasks: TaskTracker,
    memory: memory_budget::SharedMemory,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            cleanup_tasks: TaskTracker::new(),
            memory: memory_budget::SharedMemory::new(),
        }
    }
}
