//! `POST /api/v1/template.execute`

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::adoption::CallResult;
use super::api::Api;
use super::call_key::CallKey;
use super::calls::{Answer, CallInfo, CallReply};
use super::delivery::{Delivery, DeliveryBody};
use crate::argo::{self, Call, Reply};
use crate::executions::Finished;
use crate::step::{Owner, Phase, owner_event};

/// Largest request body. Kubernetes stores no object over about 1.5 MB, so no template is larger.
const MAX_BODY: usize = 4 << 20;
/// Most bytes that are read of a larger body. The answer comes after them, so that the caller sees
/// the answer and not a broken connection.
const MAX_DRAINED: usize = 64 << 20;

pub(super) async fn execute(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !api.auth.allows(&headers) {
        api.refused_calls.log();
        return (StatusCode::FORBIDDEN, "the token is missing or wrong\n").into_response();
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(error) => {
            return Json(refused(error.to_string(), &Owner::default())).into_response();
        }
    };
    match argo::parse(&body) {
        Ok(None) => Json(Reply::not_mine()).into_response(),
        Ok(Some(call)) => answer(api, call, &body).await,
        Err(error) => Json(refused(error.to_string(), &argo::owner(&body))).into_response(),
    }
}

/// The reply to a request that starts no execution.
fn refused(message: String, owner: &Owner) -> Reply {
    owner_event!(INFO, owner, phase = %Phase::Error, reason = message, "request refused");
    Reply::error(message)
}

/// Answers a call with the result of its execution, or with the delay until the next call.
async fn answer(api: Arc<Api>, call: Box<Call>, body: &[u8]) -> Response {
    let workflow = call.workflow.scope();
    let owner = Arc::new(call.owner());
    let key = CallKey::of(body);
    let info = CallInfo {
        key: key.clone(),
        exclusive: owner.id.is_some(),
        workflow: workflow.clone(),
        owner: Arc::clone(&owner),
        pending_limit: call.template.pending_limit(),
    };
    let executions = Arc::clone(&api.executions);
    let start = |names, cancel| async move { result(executions.run(call, names, cancel).await) };
    let Answer { reply, running } = api.calls.call(info, start).await;
    // The agent writes a phase into the node even after the controller has ended the node. So the
    // phase is delivered only once.
    let requeue = |delay| match running {
        Some(report) => respond(DeliveryBody::of_running(
            json(&Reply::running(delay)),
            report,
        )),
        None => Json(Reply::requeue(delay)).into_response(),
    };
    match reply {
        CallReply::Done(delivery) => {
            deliver(&api, &owner, &workflow, &key, delivery).unwrap_or_else(requeue)
        }
        CallReply::Requeue(delay) => requeue(delay),
        CallReply::Abandoned => Json(Reply::abandoned()).into_response(),
    }
}

/// The outcome as Argo's reply.
fn result(finished: Finished) -> CallResult {
    let reply = match &finished.template {
        Some(template) => Reply::outcome(finished.outcome, template),
        None => Reply::not_started(finished.outcome.phase, finished.outcome.message),
    };
    CallResult {
        reply: json(&reply),
        timed_out: finished.timed_out,
    }
}

fn json(reply: &Reply) -> Bytes {
    serde_json::to_vec(reply).map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
}

fn respond(body: DeliveryBody) -> Response {
    ([(CONTENT_TYPE, "application/json")], Body::new(body)).into_response()
}

/// Sends the reply.
///
/// # Errors
///
/// The workflow's task set has no room for the reply now. The error is the delay until the next
/// call.
fn deliver(
    api: &Api,
    owner: &Owner,
    workflow: &str,
    key: &CallKey,
    delivery: Delivery,
) -> Result<Response, Duration> {
    let bytes = delivery.reply().len();
    match api.patch_budget.spend(workflow, key, bytes, Instant::now()) {
        Ok(()) => Ok(respond(delivery.into_body())),
        Err(wait) => {
            let delay = Duration::from_secs(wait.as_secs() + 1);
            owner_event!(
                DEBUG,
                owner,
                delay_seconds = delay.as_secs(),
                "result postponed: the results of the workflow do not fit into one patch"
            );
            delivery.postpone(delay);
            Err(delay)
        }
    }
}

/// Why a request body could not be read.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the request body could not be read: {0}")]
    Read(#[source] axum::Error),
    #[error("the request is larger than {} MiB; pass large values as artifacts", MAX_BODY >> 20)]
    TooLarge,
}

async fn read(body: Body) -> Result<Bytes, BodyError> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(BodyError::Read)?;
        total += chunk.len();
        if total <= MAX_BODY {
            bytes.extend_from_slice(&chunk);
        } else if total > MAX_DRAINED {
            break;
        }
    }
    match total > MAX_BODY {
        true => Err(BodyError::TooLarge),
        false => Ok(bytes.freeze()),
    }
}
