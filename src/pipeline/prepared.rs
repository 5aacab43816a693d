//! A module on its way: fetched, compiled, waiting for a slot, and ready to run.

use std::sync::{Arc, Weak};

use sources::{Defaults, Digest, Package, Requester, Resolved};

use crate::runtime::{CompiledModule, Retain};

/// A compiled module, with the records that contain its digest and its defaults.
#[derive(Clone, Debug)]
pub(super) struct PreparedModule {
    pub(super) module: Arc<CompiledModule>,
    pub(super) records: Records,
}

/// The records that contain a module's digest and its defaults.
#[derive(Clone, Debug)]
pub(super) struct Records {
    /// The package of the module. `None` when `resolved` has the module's digest and defaults.
    pub(super) package: Option<Arc<Package>>,
    pub(super) resolved: Arc<Resolved>,
}

impl PreparedModule {
    /// Digest of the module's bytes.
    pub(super) fn digest(&self) -> &Digest {
        self.records.digest()
    }

    /// Arguments and environment for templates that set none.
    pub(super) fn defaults(&self) -> &Defaults {
        self.records.defaults()
    }

    /// The module while its step waits for a slot.
    pub(super) fn parked(self) -> ParkedModule {
        ParkedModule {
            module: Arc::downgrade(&self.module),
            records: self.records,
        }
    }
}

impl Records {
    /// The module whose code is on disk, while its step waits for a slot.
    pub(super) fn parked(self) -> ParkedModule {
        ParkedModule {
            module: Weak::new(),
            records: self,
        }
    }

    pub(super) fn digest(&self) -> &Digest {
        let known = self.package.as_ref().map(|package| &package.module);
        known
            .or(self.resolved.module.as_ref())
            .unwrap_or(&self.resolved.artifact)
    }

    pub(super) fn defaults(&self) -> &Defaults {
        self.package
            .as_ref()
            .map_or(&self.resolved.defaults, |package| &package.defaults)
    }
}

/// The module of a step that waits for a slot. Only the cache keeps the module in memory: many
/// steps with large modules can wait.
#[derive(Debug)]
pub(super) struct ParkedModule {
    pub(super) module: Weak<CompiledModule>,
    pub(super) records: Records,
}

impl ParkedModule {
    /// The module, if it is still in memory. Otherwise returns the parked module.
    pub(super) fn in_memory(self) -> Result<PreparedModule, Self> {
        match self.module.upgrade() {
            Some(module) => Ok(PreparedModule {
                module,
                records: self.records,
            }),
            None => Err(self),
        }
    }
}

/// A module after the stage `fetch`.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The module was compiled before.
    Ready(ParkedModule),
    /// The module is in the store, and is not compiled.
    Uncompiled(Uncompiled),
}

/// A module that was fetched. Its bytes are not in memory.
#[derive(Clone, Debug)]
pub(super) struct Uncompiled {
    pub(super) package: Arc<Package>,
    /// Number of bytes.
    pub(super) size: u64,
    pub(super) resolved: Arc<Resolved>,
    pub(super) requester: Requester,
}

impl Uncompiled {
    pub(super) fn records(&self) -> Records {
        Records {
            package: Some(Arc::clone(&self.package)),
            resolved: Arc::clone(&self.resolved),
        }
    }

    /// Where the compiled code may be stored.
    pub(super) fn retain(&self) -> Retain {
        match self.resolved.caching.no_store {
            true => Retain::InMemory,
            false => Retain::OnDisk,
        }
    }
}
