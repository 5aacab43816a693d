//! `POST /api/v1/template.execute`
//!
//! A call waits for its step. Where steps outlive calls, the job table will stand between [`run`] and the executor.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};

use super::Api;
use crate::argo::{self, Call, Conversion, Placement, Reply};
use crate::step::pipeline::Tees;

/// A template cannot be larger: Kubernetes keeps no object over about 1.5 MB.
const MAX_BODY: usize = 4 << 20;
/// What is read of a larger body before the answer, so that the caller reads it and not a broken connection.
const MAX_DRAINED: usize = 64 << 20;

pub(super) async fn execute(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    if !api.auth.allows(&headers) {
        return (StatusCode::FORBIDDEN, "the token is missing or wrong\n").into_response();
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(message) => return Json(refused(message)).into_response(),
    };
    let reply = match argo::parse(&body) {
        Ok(None) => Reply::not_mine(),
        Ok(Some(call)) => {
            let running = AssertUnwindSafe(run(&api, call)).catch_unwind().await;
            running.unwrap_or_else(|_| Reply::error("this program has a defect: see its log"))
        }
        Err(error) => refused(error.to_string()),
    };
    Json(reply).into_response()
}

/// The answer to a request that no step comes of.
fn refused(message: String) -> Reply {
    tracing::info!(said = message, "request refused");
    Reply::error(message)
}

async fn run(api: &Api, call: Call) -> Reply {
    let place = api.repositories.place(&call.workflow, &call.template.name).await;
    let conversion = Conversion { limits: api.limits, placement: Placement { place, ..Placement::default() } };
    let (workflow, name) = (call.workflow.name.clone(), call.template.name.clone());
    let (step, template) = match call.into_step(&conversion) {
        Ok(converted) => converted,
        Err(error) => {
            tracing::info!(workflow, template = name, said = %error, "template refused");
            return Reply::error(error.to_string());
        }
    };
    let Some(executor) = executor(api).await else { return Reply::error("the executor is not running: see its log") };
    // When the caller goes away this is dropped, and the step ends.
    let cancel = api.shutdown.child_token();
    let _cancel_on_drop = cancel.clone().drop_guard();
    let outcome = executor.execute(step, cancel, Tees::default()).await;
    Reply::outcome(outcome, &template)
}

async fn executor(api: &Api) -> Option<Arc<crate::step::Executor>> {
    let mut executor = api.executor.clone();
    let ready = executor.wait_for(Option::is_some).await.ok()?;
    ready.clone()
}

async fn read(body: Body) -> Result<Bytes, String> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut total) = (BytesMut::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| format!("the request broke off: {error}"))?;
        total += chunk.len();
        if total <= MAX_BODY {
            bytes.extend_from_slice(&chunk);
        } else if total > MAX_DRAINED {
            break;
        }
    }
    if total > MAX_BODY {
        return Err(format!("the request is larger than {} MiB; pass large values as artifacts", MAX_BODY >> 20));
    }
    Ok(bytes.freeze())
}
