//! The HTTP side: what Argo's agent calls, and what the kubelet asks.
//!
//! Never 404 on `template.execute`, which would switch the plugin off for the life of the agent, and never a 5xx, which fails the node
//! with a text that nobody can act on: what goes wrong is said in a reply of 200.

mod adoption;
mod auth;
pub mod calls;
mod delivery;
mod execute;
mod patch_budget;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::sync::watch;

use crate::argo::repository::Repositories;
use crate::pipeline::Executor;
use crate::step::StepLimits;

pub use auth::Auth;
pub use calls::Jobs;
pub use patch_budget::Pacing;

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    /// Who may call.
    pub auth: Auth,
    /// What the operator allows each step.
    pub limits: StepLimits,
    /// Where artifacts are that name no place.
    pub repositories: Repositories,
    /// The executor, once it is set up: the port is open before that.
    pub executor: watch::Receiver<Option<Arc<Executor>>>,
    /// The steps, which outlive the calls for them.
    pub jobs: Jobs<Bytes>,
    /// How much is given to the agent at once.
    pub pacing: Pacing,
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/template.execute", post(execute::execute))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        // The handler bounds the body itself: it answers what is too large in Argo's terms.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(api))
}

/// Ready when steps can run.
async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, &'static str) {
    if api.executor.borrow().is_some() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}
