//! Front door for Argo's agent: HTTP, with one route.
//!
//! `template.execute` never answers 404 or 5xx. A 404 would switch the plugin off for the life of
//! the agent. A 5xx would fail the node with a message that does not help. Errors are part of a
//! reply with status 200.

mod adoption;
mod api;
mod auth;
mod call_key;
mod calls;
mod delivery;
mod execute;
mod patch_budget;
mod room;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

pub use api::Api;
pub use auth::Auth;
pub use calls::Calls;
pub use patch_budget::PatchBudget;

/// The routes of the agent's port.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/template.execute", post(execute::execute))
        // The handler limits the body itself, and answers a larger one with a reply of Argo.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(api))
}
