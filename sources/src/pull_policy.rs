//! When the origin of a module is asked.

use serde::{Deserialize, Serialize};

/// When to ask the origin, as Kubernetes' `imagePullPolicy` means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask each time what the reference names now. Content that is here already is not downloaded again.
    Always,
    /// Ask only when the reference is not in the store.
    IfNotPresent,
    /// Never ask: the store alone.
    Never,
}
