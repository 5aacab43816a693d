//! The state that the handlers share.

use std::sync::Arc;

use super::auth::Auth;
use super::calls::Calls;
use super::patch_budget::PatchBudget;
use crate::executions::Executions;
use crate::listener::Occurrences;

/// The front end for Argo's agent.
#[derive(Debug)]
pub struct Api {
    /// Which callers are allowed.
    pub auth: Auth,
    /// Logs the calls that are not allowed.
    pub refused_calls: Occurrences,
    /// Logs the calls whose bodies arrive too slowly.
    pub slow_calls: Occurrences,
    /// Runs the templates of calls.
    pub executions: Arc<Executions>,
    /// Connects calls to executions, which outlive them.
    pub calls: Calls,
    /// Limits the bytes of results that the agent gets at once.
    pub patch_budget: PatchBudget,
}
