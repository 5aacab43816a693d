//! The admin port: health and readiness probes, and metrics.
//!
//! The port needs no token, so it serves nothing about workflows.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use crate::telemetry::{self, Metrics};

type Readiness = Arc<dyn Fn() -> bool + Send + Sync>;

/// The routes of the admin port. `is_ready` says whether steps can run.
pub fn router(is_ready: impl Fn() -> bool + Send + Sync + 'static, metrics: Metrics) -> Router {
    let is_ready: Readiness = Arc::new(is_ready);
    let metrics = async move || ([(CONTENT_TYPE, telemetry::CONTENT_TYPE)], metrics.text());
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(is_ready)
}

async fn ready(State(is_ready): State<Readiness>) -> (StatusCode, &'static str) {
    if is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}
