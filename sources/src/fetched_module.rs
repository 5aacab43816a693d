//! A module in memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::Package;

/// The verified bytes of a module.
#[derive(Clone, Debug)]
pub struct FetchedModule {
    /// The digest of the module, and the defaults that it is started with.
    pub package: Arc<Package>,
    /// The bytes. Their digest is verified. They are not checked to be WebAssembly.
    pub bytes: Bytes,
    /// The permit to hold a module in memory. The caller must hold the permit as long as the bytes.
    pub permit: Arc<OwnedSemaphorePermit>,
}
