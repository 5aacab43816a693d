//! A module in memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::Package;

/// The verified bytes of a module.
///
/// The bytes can be large. So if a caller must wait before it uses the bytes, it drops them, and
/// fetches the module again after the wait. The second fetch reads the store.
#[derive(Clone, Debug)]
pub struct FetchedModule {
    /// The digest of the module, and the defaults that it is started with.
    pub package: Arc<Package>,
    /// The bytes. Their digest is verified. They are not checked to be WebAssembly.
    pub bytes: Bytes,
}
