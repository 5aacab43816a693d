//! The request for a module.

use crate::{PullPolicy, Reference, Requester};

/// A request for a module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The reference of the module.
    pub reference: Reference,
    /// When to ask the origin. `None` for the default of the reference.
    pub pull_policy: Option<PullPolicy>,
    /// The uid of the workflow. Within one scope, a reference is resolved once, so that all steps
    /// run the same bytes.
    pub scope: String,
    /// The requester, whose credentials are used.
    pub requester: Requester,
}
