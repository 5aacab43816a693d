//! The admin port: health and readiness probes.
//!
//! The port needs no token, so it serves nothing about workflows.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::executions::Executions;

/// The routes of the admin port.
pub fn router(executions: Arc<Executions>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(executions)
}

/// Ready once the executor is set up: steps can run.
async fn ready(State(executions): State<Arc<Executions>>) -> (StatusCode, &'static str) {
    if executions.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}
