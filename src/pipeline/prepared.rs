//! A module that is ready to run, and its records.

use std::sync::{Arc, Weak};

use sources::{Defaults, Digest, Package, Resolved};

use crate::runtime::CompiledModule;

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
