//! A task that runs.

use std::sync::Arc;

use crate::executions::{CancelHandle, Usage};

/// A task that runs, or whose result is kept.
#[derive(Debug)]
pub(super) struct Running {
    /// Number of the execution. A task that comes back has another number.
    pub(super) number: u64,
    pub(super) cancel: CancelHandle,
    pub(super) usage: Arc<Usage>,
}
