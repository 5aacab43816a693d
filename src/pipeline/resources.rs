//! The resources that all steps share.

use std::path::PathBuf;
use std::sync::Arc;

use artifacts::Stores;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::full_results::FullResults;
use crate::runtime::{Capacity, Compiler, Tee};
use crate::staging::{Cleaner, Scratch};
use crate::step::OutputLimits;
use crate::telemetry::Metrics;

/// The operator's settings for all steps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of steps that run at the same time, and their memory.
    pub capacity: Capacity,
    /// Counts steps and stages.
    pub metrics: Metrics,
    /// Whether the steps belong to tenants, which are the namespaces. Slots and compile workers are
    /// then shared fairly between namespaces, and not only between templates.
    pub has_tenants: bool,
    /// Memory of all compile workers together, in bytes.
    pub compile_memory: u64,
    /// The scratch directory, in which the directories of steps are made.
    pub scratch: PathBuf,
    /// Directory for compiled code. `None` to keep compiled code only in memory.
    pub code: Option<PathBuf>,
    /// Bytes that must stay free on the file system of the scratch directory.
    pub min_free_disk: u64,
    /// Limits on what a step reports.
    pub outputs: OutputLimits,
    /// Whether the log has the output of modules.
    pub log_module_output: bool,
    /// The templates whose steps may not start to run, because too many results wait for delivery.
    pub results_full: watch::Receiver<FullResults>,
}

/// Receivers of the module's output while the module runs.
#[derive(Default)]
pub struct Tees {
    /// Gets a copy of each write to standard output.
    pub stdout: Option<Tee>,
    /// Gets a copy of each write to standard error.
    pub stderr: Option<Tee>,
}

impl std::fmt::Debug for Tees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tees").finish_non_exhaustive()
    }
}

/// The resources that all steps share. Created once for each process.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) stores: Stores,
    pub(super) compiler: Arc<Compiler>,
    pub(super) scratch: Scratch,
    pub(super) cleaner: Cleaner,
    /// The server's async threads. Transfers run there: the small runtime of a slot's thread does
    /// not run between steps, so connections in it would not be served.
    pub(super) handle: Handle,
    /// Bytes that must stay free on the file system of the scratch directory.
    pub(super) min_free_disk: u64,
    pub(super) outputs: OutputLimits,
    /// Whether the log has the output of modules.
    pub(super) log_module_output: bool,
}
