//! `POST /api/v1/template.execute`

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;

use super::adoption::CallResult;
use super::api::Api;
use super::call_key::CallKey;
use super::call_reader::refused;
use super::calls::{Answer, CallInfo, CallReply};
use super::delivery::{Delivery, DeliveryBody};
use crate::argo::{self, Call, Reply};
use crate::executions::{Finished, memory_of_request};
use crate::listener::Connection;
use crate::step::{Owner, owner_event};

pub(super) async fn execute(
    State(api): State<Arc<Api>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match api.reader.read(&connection, &headers, body).await {
        Ok(body) => body,
        Err(response) => return response,
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
    let start = |names, cancel| executions.run(call, names, cancel);
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
impl From<Finished> for CallResult {
    fn from(finished: Finished) -> Self {
        Self {
            timed_out: finished.timed_out,
            reply: json(&finished.into_reply()),
        }
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
