//! A module in memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::Package;

/// A module's verified bytes.
#[derive(Clone, Debug)]
pub struct FetchedModule {
    /// Which module it is, and what it is started with.
    pub package: Arc<Package>,
    /// The bytes. They are what they claim to be; whether they are WebAssembly is not known.
    pub bytes: Bytes,
    /// The permit to hold a module in memory. Keep the permit as long as the bytes.
    pub permit: Arc<OwnedSemaphorePermit>,
}
