//! The state that the handlers share.

use std::sync::Arc;

use super::call_reader::CallReader;
use super::calls::Calls;
use super::patch_budget::PatchBudget;
use crate::executions::Executions;

/// The front end for Argo's agent.
#[derive(Debug)]
pub struct Api {
    /// Reads calls.
    pub reader: CallReader,
    /// Runs the templates of calls.
    pub executions: Arc<Executions>,
    /// Connects calls to executions. An execution can last longer than the call that started it.
    pub calls: Calls,
    /// Limits the bytes of results that the agent gets at once.
    pub patch_budget: PatchBudget,
}
