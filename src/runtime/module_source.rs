//! Where the compiler reads the bytes of a module.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// A module whose bytes are read when a compile worker is free.
#[async_trait]
pub trait ModuleSource: Send + Sync {
    /// The number of bytes.
    fn size(&self) -> u64;

    /// Reads and verifies the bytes. The compiler calls this before each attempt, when a worker
    /// may start.
    async fn read(&self) -> Result<Bytes, ReadError>;

    /// The compiler calls this when the module begins to wait for a worker.
    fn queued(&self) {}
}

/// The reason why the bytes of a module cannot be read.
pub type ReadError = Arc<dyn Error + Send + Sync>;

#[async_trait]
impl ModuleSource for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    async fn read(&self) -> Result<Bytes, ReadError> {
        Ok(self.clone())
    }
}
