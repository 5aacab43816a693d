//! The request for a module.

use crate::{PullPolicy, Reference, Requester};

/// Who wants which module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The module.
    pub reference: Reference,
    /// When to ask the origin; `None` for the default.
    pub pull_policy: Option<PullPolicy>,
    /// Within one scope (a workflow's uid) a reference is resolved once, so that all steps run the same bytes.
    pub scope: String,
    /// Whose credentials may be used.
    pub requester: Requester,
}
