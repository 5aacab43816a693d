//! `successCondition`: an expression of the workflow's author, in the language Expr
//! (<https://expr-lang.org>).
//!
//! An expression of a few characters can compute for ever, or make a list that needs all memory of
//! the machine. So a worker process evaluates it ([`crate::sandbox`]).

mod child;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Response;
use super::places::Places;
use super::task_error::TaskError;
use crate::argo::HttpTemplate;
use crate::sandbox::{self, Ending, WorkerLimits};
use crate::text::units::{ByteSize, Time};

pub use child::main as worker;

/// The hidden command that runs a worker.
pub const COMMAND: &str = "expression-worker";

/// Workers at the same time, and workers of one namespace.
const WORKERS: usize = 2;
const OF_NAMESPACE: usize = 1;
/// Longest time of a worker, without the wait for its place. On a busy machine, a worker gets
/// little processor time.
const TIME: Duration = Duration::from_secs(30);
/// The limits of a worker.
const LIMITS: WorkerLimits = WorkerLimits {
    memory: 64 << 20,
    processor_seconds: 2,
};
/// Maximum length of a worker's answer, in bytes.
const MAX_ANSWER: u64 = 16 << 10;

/// Evaluates conditions.
#[derive(Debug)]
pub(super) struct Conditions {
    workers: Places,
}

/// The variables of a condition: the request and its response.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    request: RequestVariables,
    response: ResponseVariables,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestVariables {
    method: String,
    url: String,
    body: String,
    /// The bytes of `bodyFrom` in base64.
    body_bytes: Option<String>,
    headers: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResponseVariables {
    status_code: u16,
    body: String,
    headers: BTreeMap<String, Vec<String>>,
}

/// What a worker has to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    condition: String,
    exchange: Exchange,
}

/// The answer of a worker: the value of the condition, or the reason why it has none.
type Answer = Result<bool, String>;

impl Exchange {
    pub(super) fn new(http: &HttpTemplate, response: &Response) -> Self {
        let fixed = http
            .headers
            .iter()
            .filter(|header| header.secret().is_none());
        Self {
            request: RequestVariables {
                method: http.method.clone(),
                url: http.url.clone(),
                body: http.body.clone(),
                body_bytes: http
                    .body_from
                    .as_ref()
                    .map(|body| STANDARD.encode(&body.bytes)),
                headers: fixed
                    .map(|header| (header.name.clone(), vec![header.value.clone()]))
                    .collect(),
            },
            response: ResponseVariables {
                status_code: response.status.as_u16(),
                body: response.body.clone(),
                headers: by_canonical_name(&response.headers),
            },
        }
    }
}

/// The values of each header by its name, as Go's client spells the name: `Content-Type`
/// (`CanonicalMIMEHeaderKey` in `net/textproto`).
fn by_canonical_name(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let parts = name.as_str().split('-').map(|part| {
            let mut rest = part.chars();
            let first = rest.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(rest).collect::<String>()
        });
        let name = parts.collect::<Vec<_>>().join("-");
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        values.entry(name).or_default().push(value);
    }
    values
}

impl Conditions {
    pub(super) fn new() -> Self {
        Self {
            workers: Places::new(WORKERS, OF_NAMESPACE),
        }
    }

    /// Whether the condition of a template in the namespace is true.
    pub(super) async fn evaluate(
        &self,
        condition: &str,
        exchange: Exchange,
        namespace: &str,
    ) -> Result<bool, TaskError> {
        let job = Job {
            condition: condition.to_owned(),
            exchange,
        };
        let _place = self.workers.take(namespace).await;
        let answer = tokio::time::timeout(TIME, ask(&job)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer.map_err(TaskError::failed),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(TaskError::failed(format!(
                "the condition takes longer than {}",
                Time(TIME)
            ))),
        };
        answer.map_err(|error| TaskError {
            message: format!("successCondition cannot be evaluated: {}", error.message),
            ..error
        })
    }
}

/// Starts a worker, and waits for its answer. The worker is killed when the future is dropped.
async fn ask(job: &Job) -> Result<Answer, TaskError> {
    let fault = |error: io::Error| TaskError::fault(error.to_string());
    let mut worker = sandbox::start(&sandbox::this_program(), COMMAND).map_err(fault)?;
    let job = serde_json::to_vec(job).map_err(|error| fault(error.into()))?;
    if let Some(mut stdin) = worker.stdin.take() {
        // If the worker has ended, its messages contain the reason.
        let _ = stdin.write_all(&job).await;
    }
    let (answer, messages) = tokio::join!(read(worker.stdout.take()), read(worker.stderr.take()),);
    let status = worker.wait().await.map_err(fault)?;
    if status.success()
        && let Ok(answer) = serde_json::from_slice(&answer)
    {
        return Ok(answer);
    }
    let ending = Ending::of(status, &String::from_utf8_lossy(&messages));
    tracing::warn!(?ending, "the worker of a successCondition ended early");
    Err(early_end(ending))
}

/// The error for a worker that ended without an answer.
fn early_end(ending: Ending) -> TaskError {
    match ending {
        Ending::Memory => {
            let memory = ByteSize(LIMITS.memory);
            TaskError::failed(format!("the condition needs more memory than {memory}"))
        }
        Ending::ProcessorTime => {
            let seconds = LIMITS.processor_seconds;
            TaskError::failed(format!(
                "the condition needs more processor time than {seconds} s"
            ))
        }
        Ending::StackOverflow => TaskError::failed("the condition is nested too deeply"),
        Ending::Panicked(how) => TaskError::failed(format!("the evaluation panicked: {how}")),
        Ending::Killed => TaskError::fault("another process, or the system, killed the worker"),
        Ending::Crashed(how) | Ending::Other(how) => {
            TaskError::fault(format!("the worker ended early: {how}"))
        }
    }
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(MAX_ANSWER).read_to_end(&mut bytes).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_spelled_as_in_go() {
        let mut headers = HeaderMap::new();
        headers.append("content-type", "a".parse().unwrap());
        headers.append("x-b", "1".parse().unwrap());
        headers.append("x-b", "2".parse().unwrap());
        let named = by_canonical_name(&headers);
        assert_eq!(named["Content-Type"], ["a"]);
        assert_eq!(named["X-B"], ["1", "2"]);
    }
}
