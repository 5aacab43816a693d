//! `POST /api/v1/template.execute`

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use super::Api;
use super::calls::{Answer, Finished, Key};
use super::delivery::Delivery;
use crate::argo::{self, ArtifactContext, Call, Conversion, Reply};
use crate::executions::registry::Owner;
use crate::pipeline::Tees;

/// A template cannot be larger: Kubernetes keeps no object over about 1.5 MB.
const MAX_BODY: usize = 4 << 20;
/// What is read of a larger body before the answer, so that the caller reads it and not a broken connection.
const MAX_DRAINED: usize = 64 << 20;

pub(super) async fn execute(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !api.auth.allows(&headers) {
        return (StatusCode::FORBIDDEN, "the token is missing or wrong\n").into_response();
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(message) => return Json(refused(message)).into_response(),
    };
    match argo::parse(&body) {
        Ok(None) => Json(Reply::not_mine()).into_response(),
        Ok(Some(call)) => answer(api, call, &body).await,
        Err(error) => Json(refused(error.to_string())).into_response(),
    }
}

/// The answer to a request that no step comes of.
fn refused(message: String) -> Reply {
    tracing::info!(said = message, "request refused");
    Reply::error(message)
}

fn text(reply: &Reply) -> Bytes {
    serde_json::to_vec(reply).map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
}

/// What the step came to, or when to ask for that.
async fn answer(api: Arc<Api>, call: Call, body: &[u8]) -> Response {
    let scope = call.workflow.scope();
    // Everything that tells one execution from another is in the bytes: the workflow's uid, and the `id` if there is one.
    let (key, alone) = (
        Key::of(body),
        call.wasm.id.as_ref().is_some_and(|id| !id.is_empty()),
    );
    let owner = Owner {
        namespace: call.workflow.namespace.clone(),
        workflow: call.workflow.name.clone(),
        uid: call.workflow.uid.clone(),
        template: call.template.name.clone(),
    };
    let running = Arc::clone(&api);
    let start = |cancel| async move {
        let began = Instant::now();
        let done = AssertUnwindSafe(run(&running, call, cancel))
            .catch_unwind()
            .await;
        let (reply, timeout) =
            done.unwrap_or_else(|_| (Reply::error("this program has a defect: see its log"), None));
        let value = text(&reply);
        let timed_out = timeout.is_some_and(|timeout| began.elapsed() >= timeout);
        Finished {
            bytes: value.len(),
            value,
            timed_out,
        }
    };
    match api.jobs.call(key.clone(), alone, owner, start).await {
        Answer::Done(delivery) => deliver(&api, &scope, &key, delivery),
        Answer::Later(after) => Json(Reply::requeue(after)).into_response(),
        Answer::Unwanted => Json(Reply::abandoned()).into_response(),
    }
}

/// The reply, unless the agent has got so much for this workflow already that it could not put it all into one object.
fn deliver(api: &Api, workflow: &str, key: &Key, delivery: Delivery<Bytes>) -> Response {
    let bytes = delivery.value().clone();
    match api.pacing.give(workflow, key, bytes.len(), Instant::now()) {
        Ok(()) => {
            let body = Body::new(delivery.into_body(bytes));
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(after) => {
            let after = Duration::from_secs(after.as_secs() + 1);
            tracing::debug!(
                workflow,
                ?after,
                "the workflow's results are more than goes into one object: one waits"
            );
            delivery.later(after);
            Json(Reply::requeue(after)).into_response()
        }
    }
}

/// The step from its template to its reply; and its own timeout.
async fn run(api: &Api, call: Call, cancel: CancellationToken) -> (Reply, Option<Duration>) {
    let place = tokio::select! {
        biased;
        place = api.repositories.destination(&call.workflow, &call.template.name) => place,
        () = cancel.cancelled() => return (Reply::error("the step was cancelled"), None),
    };
    let conversion = Conversion {
        limits: api.limits,
        artifacts: ArtifactContext {
            destination: place,
            ..ArtifactContext::default()
        },
    };
    let (workflow, name) = (call.workflow.name.clone(), call.template.name.clone());
    let (step, template) = match call.into_step(&conversion) {
        Ok(converted) => converted,
        Err(error) => {
            tracing::info!(workflow, template = %name, said = %error, "template refused");
            return (Reply::error(error.to_string()), None);
        }
    };
    let Some(executor) = executor(api).await else {
        return (
            Reply::error("the executor is not running: see its log"),
            None,
        );
    };
    let timeout = step.timeout;
    let outcome = executor
        .execute(
            crate::step::ExecutionId::new(name),
            step,
            cancel,
            Tees::default(),
        )
        .await;
    (Reply::outcome(outcome, &template), timeout)
}

async fn executor(api: &Api) -> Option<Arc<crate::pipeline::Executor>> {
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
        return Err(format!(
            "the request is larger than {} MiB; pass large values as artifacts",
            MAX_BODY >> 20
        ));
    }
    Ok(bytes.freeze())
}
