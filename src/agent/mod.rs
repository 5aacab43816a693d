//! Front door for Argo's agent: HTTP, with one route.
//!
//! `template.execute` never answers 404 or 5xx. A 404 would switch the plugin off for the life of
//! the agent. A 5xx would fail the node with a message that does not help. Errors are part of a
//! reply with status 200.

mod adoption;
mod api;
mod auth;
mod call_key;
mod call_reader;
mod calls;
mod delivery;
mod execute;
mod patch_budget;
mod stand_aside;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, post};

pub use api::Api;
pub use auth::Auth;
pub use call_reader::CallReader;
pub use calls::Calls;
pub use patch_budget::PatchBudget;

/// The routes of the agent's port.
pub fn router(api: Api) -> Router {
    with_route(post(execute::execute)).with_state(Arc::new(api))
}

/// The routes of the agent's port, if another executor runs the steps: each step is left to it.
pub fn stand_aside(reader: CallReader) -> Router {
    with_route(post(stand_aside::execute)).with_state(Arc::new(reader))
}

fn with_route<S: Clone + Send + Sync + 'static>(execute: MethodRouter<S>) -> Router<S> {
    Router::new()
        .route("/api/v1/template.execute", execute)
        // The handler limits the body itself, and answers a larger one with a reply of Argo.
        .layer(DefaultBodyLimit::disable())
}
