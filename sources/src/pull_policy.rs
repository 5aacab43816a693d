//! The pull policy: when the origin of a module is asked.

use serde::{Deserialize, Serialize};

/// When to ask the origin, with the meaning of Kubernetes' `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Always ask the origin for the current digest. Content in the store is not downloaded again.
    Always,
    /// Ask the origin only if the reference is not in the store.
    IfNotPresent,
    /// Never ask the origin. A reference that is not in the store is an error.
    Never,
}
