//! `POST /api/v1/template.execute` beside an executor of the whole cluster.
//!
//! The agent's pod still has a sidecar for this plugin. Without one, the agent would fail the
//! nodes: it needs a plugin that takes their templates. The reply has no phase, so the agent writes
//! nothing, and asks again much later.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::call_reader::CallReader;
use crate::argo::{self, Reply};
use crate::listener::Connection;

/// Time after which the agent asks again. The task has left the TaskSet by then, or waits for the
/// executor of the cluster.
const REQUEUE: Duration = Duration::from_hours(1);

pub(super) async fn execute(
    State(reader): State<Arc<CallReader>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match reader.read(&connection, &headers, body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let reply = match argo::parse(&body) {
        Ok(None) => Reply::not_mine(),
        // The executor of the cluster reports the mistakes of a template.
        Ok(Some(_)) | Err(_) => Reply::requeue(REQUEUE),
    };
    drop(body);
    connection.end_body();
    Json(reply).into_response()
}
