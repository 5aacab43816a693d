//! `POST /api/v1/template.execute`

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::timeout;

use super::adoption::CallResult;
use super::api::Api;
use super::call_key::CallKey;
use super::calls::{Answer, CallInfo, CallReply};
use super::delivery::{Delivery, DeliveryBody};
use super::room::memory_of_request;
use crate::argo::{self, Call, Reply};
use crate::executions::Finished;
use crate::listener::Connection;
use crate::step::{Owner, Phase, owner_event};

/// Largest request body. Kubernetes stores no object over about 1.5 MB, so no template is larger.
const MAX_BODY: usize = 4 << 20;
/// Most bytes that are read of a larger body. The answer comes after them, so that the caller sees
/// the answer and not a broken connection.
const MAX_DRAINED: usize = 64 << 20;
/// Longest time for a request body. The agent is on the same machine, and ends a call after 30 s.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Delay until the next call, if the body of a call did not arrive in time.
const SLOW_REQUEUE: Duration = Duration::from_secs(1);

pub(super) async fn execute(
    State(api): State<Arc<Api>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !api.auth.allows(&headers) {
        api.refused_calls.log();
        return (StatusCode::FORBIDDEN, "the token is missing or wrong\n").into_response();
    }
    connection.verify();
    connection.begin_body();
    let body = match timeout(BODY_TIME, read(body, &connection)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            return Json(refused(error.to_string(), &Owner::default())).into_response();
        }
        Err(_) => {
            api.slow_calls.log();
            connection.close_after_response();
            return Json(Reply::requeue(SLOW_REQUEUE)).into_response();
        }
    };
    let key = CallKey::of(&body);
    let memory = memory_of_request(&body);
    let parsed = match argo::parse(&body) {
        Ok(Some(_)) if memory > api.calls.largest() => {
            let message = "the request has too many values; pass large values as artifacts";
            Err(refused(message.to_owned(), &argo::owner(&body)))
        }
        Ok(call) => Ok(call),
        Err(error) => Err(refused(error.to_string(), &argo::owner(&body))),
    };
    drop(body);
    connection.end_body();
    match parsed {
        Ok(Some(call)) => answer(api, call, key, memory).await,
        Ok(None) => Json(Reply::not_mine()).into_response(),
        Err(reply) => Json(reply).into_response(),
    }
}

/// The reply to a request that starts no execution.
fn refused(message: String, owner: &Owner) -> Reply {
    owner_event!(INFO, owner, phase = %Phase::Error, reason = message, "request refused");
    Reply::error(message)
}

/// Answers a call with the result of its execution, or with the delay until the next call.
async fn answer(api: Arc<Api>, call: Box<Call>, key: CallKey, memory: usize) -> Response {
    let workflow = call.workflow.scope();
    let owner = Arc::new(call.owner());
    let info = CallInfo {
        key: key.clone(),
        exclusive: owner.id.is_some(),
        memory,
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

/// Reads a body. The connection may be closed meanwhile, if too many bodies are being read.
async fn read(body: Body, connection: &Connection) -> Result<Bytes, BodyError> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(BodyError::Read)?;
        total += chunk.len();
        if total <= MAX_BODY {
            bytes.extend_from_slice(&chunk);
            connection.hold(bytes.capacity());
        } else if total > MAX_DRAINED {
            break;
        } else {
            bytes = BytesMut::new();
            connection.hold(0);
        }
    }
    match total > MAX_BODY {
        true => Err(BodyError::TooLarge),
        false => Ok(bytes.freeze()),
    }
}
