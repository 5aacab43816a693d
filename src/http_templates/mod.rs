//! Runs `http` templates, as Argo's agent does.
//!
//! Without agent's pods, `http` templates would stay Pending. `serve --cluster --http-templates`
//! sends their requests. The behaviour is that of `workflow/executor/agent.go` of Argo Workflows,
//! with these differences:
//!
//! - The client is guarded: requests to this machine and to metadata services are refused.
//! - The size of the response is bounded.
//! - A redirect to another server gets no header with a Secret.
//! - A worker process evaluates `successCondition`, with limits on time and memory.
//!
//! | file | contents |
//! |---|---|
//! | `headers` | the headers of a request, with the values of Secrets |
//! | `client` | sends a request, follows redirects, and reads the response |
//! | `condition` | decides whether a response is a success |
//! | `places` | limits the number of requests of each namespace |
//! | `task_error` | the error of a task |

mod client;
mod condition;
mod headers;
mod places;
mod task_error;

use std::sync::Arc;
use std::time::{Duration, Instant};

use net::Hosts;
use tracing::Instrument;

use crate::argo::{HttpCall, Reply};
use crate::config::NamespaceRules;
use crate::executions::{CancelHandle, Registry};
use crate::kubernetes::Kubernetes;
use crate::step::{Outcome, Phase, StepNames, step_event};
use crate::telemetry::Metrics;
use crate::text::units::Time;
use client::Clients;
use condition::{Conditions, Exchange};
use places::Places;
use task_error::TaskError;

pub use condition::{COMMAND as EXPRESSION_WORKER, worker as expression_worker};

/// Requests at the same time, if the responses are small.
const MAX_REQUESTS: usize = 256;
/// Memory for the responses of all requests, in bytes.
const RESPONSES: usize = 64 << 20;
/// Copies of a response that are in memory at the same time.
const COPIES: usize = 4;
/// One namespace can have this part of the requests.
const NAMESPACE_PART: usize = 8;
/// Maximum length of a message, in characters. Messages contain texts of the template.
const MAX_MESSAGE: usize = 1000;

/// The places for requests with responses of at most this number of bytes.
fn places(max_response: usize) -> Places {
    let in_memory = RESPONSES / COPIES / max_response.max(1);
    let all = in_memory.clamp(NAMESPACE_PART, MAX_REQUESTS);
    Places::new(all, all / NAMESPACE_PART)
}

/// Runs `http` templates. One value serves the whole process.
#[derive(Debug)]
pub struct HttpTemplates {
    clients: Clients,
    kubernetes: Kubernetes,
    conditions: Conditions,
    places: Places,
    rules: NamespaceRules,
    /// Maximum size of the body of a response, in bytes.
    max_response: usize,
    registry: Registry,
    metrics: Metrics,
}

impl HttpTemplates {
    /// Makes the clients. `kubernetes` reads Secrets. `machine` lists the hosts that may be on this
    /// machine. `authorities` are certificate authorities in PEM. `rules` restrict the hosts and
    /// the time of each namespace. `max_response` is the maximum size of a response's body, in
    /// bytes. `registry` gets the running tasks.
    ///
    /// # Errors
    ///
    /// A certificate or a proxy is malformed.
    pub fn new(
        kubernetes: Kubernetes,
        machine: impl IntoIterator<Item = String>,
        authorities: &[String],
        rules: NamespaceRules,
        max_response: usize,
        registry: Registry,
        metrics: Metrics,
    ) -> Result<Self, net::Error> {
        // The author of a workflow may choose plain HTTP, as with Argo's agent.
        let hosts = Hosts::new(machine).in_plain_http();
        Ok(Self {
            clients: Clients::new(&hosts, authorities)?,
            kubernetes,
            conditions: Conditions::new(),
            places: places(max_response),
            rules,
            max_response,
            registry,
            metrics,
        })
    }

    /// Sends the request of a template. The task is in the registry until the returned future is
    /// done. Every error becomes a reply.
    pub async fn run(
        self: Arc<Self>,
        call: Box<HttpCall>,
        names: StepNames,
        cancel: CancelHandle,
    ) -> Reply {
        let started = Instant::now();
        let _registration = self.registry.register(names.clone(), cancel.clone());
        let exchange = self.exchange_in_time(&call).instrument(names.span());
        let exchange = Box::pin(exchange);
        let ended = cancel.token().run_until_cancelled(exchange).await;
        let outcome = match ended {
            Some(Ok(outcome)) => outcome,
            Some(Err(TaskError { phase, message })) => {
                let message = message.chars().take(MAX_MESSAGE).collect();
                outcome(phase, message, None)
            }
            None => match cancel.failure() {
                Some(message) => outcome(Phase::Failed, message.to_owned(), None),
                None => outcome(Phase::Error, "the task was cancelled".to_owned(), None),
            },
        };
        self.metrics.http_template_ended(outcome.phase);
        step_event!(
            INFO,
            &names,
            phase = %outcome.phase,
            microseconds = started.elapsed().as_micros(),
            reason = outcome.message,
            "http template ended"
        );
        Reply::outcome(outcome, &call.template)
    }

    /// Applies the shorter time limit of the template.
    async fn exchange_in_time(&self, call: &HttpCall) -> Result<Outcome, TaskError> {
        let limits = [
            (call.template.timeout.map(|time| time.0), "`timeout`"),
            (
                call.template.active_deadline_seconds.map(|time| time.0),
                "`activeDeadlineSeconds`",
            ),
        ];
        let limits = limits
            .into_iter()
            .filter_map(|(time, name)| Some((time?, name)));
        let shortest = limits.min_by_key(|(time, _)| *time);
        let (time, name) = shortest.unwrap_or((Duration::MAX, ""));
        within(time, name, self.exchange_in_place(call)).await
    }

    /// Waits for a place. `limits.total` does not include this time.
    async fn exchange_in_place(&self, call: &HttpCall) -> Result<Outcome, TaskError> {
        let namespace = &call.workflow.namespace;
        let _place = self.places.take(namespace).await;
        let total = self.rules.limits(namespace).total;
        within(total, "`limits.total`", self.exchange(call)).await
    }

    async fn exchange(&self, call: &HttpCall) -> Result<Outcome, TaskError> {
        let namespace = &call.workflow.namespace;
        let headers = headers::of(&call.http, namespace, &self.kubernetes).await?;
        let client = self.clients.of(&call.http, namespace, &self.rules);
        let sent = client::send(&client, &call.http, headers, self.max_response);
        let response = sent.await?;
        let condition = &call.http.success_condition;
        let failure = if condition.is_empty() {
            // As Argo's agent decides without a condition.
            let status = response.status.as_u16();
            (!response.status.is_success())
                .then(|| format!("received non-2xx response code: {status}"))
        } else {
            let exchange = Exchange::new(&call.http, &response);
            let evaluated = self.conditions.evaluate(condition, exchange, namespace);
            let is_success = evaluated.await?;
            let shown: String = condition.chars().take(MAX_MESSAGE).collect();
            (!is_success).then(|| format!("successCondition '{shown}' evaluated false"))
        };
        let phase = match failure {
            None => Phase::Succeeded,
            Some(_) => Phase::Failed,
        };
        Ok(outcome(
            phase,
            failure.unwrap_or_default(),
            Some(response.body),
        ))
    }
}

/// Ends the work at a time limit. `name` is the key of the limit.
async fn within<T>(
    time: Duration,
    name: &str,
    work: impl Future<Output = Result<T, TaskError>>,
) -> Result<T, TaskError> {
    let worked = tokio::time::timeout(time, work).await;
    worked.unwrap_or_else(|_| {
        let time = Time(time);
        Err(TaskError::failed(format!(
            "time limit of {time} exceeded ({name})"
        )))
    })
}

fn outcome(phase: Phase, message: String, result: Option<String>) -> Outcome {
    Outcome {
        phase,
        message,
        result,
        exit_code: None,
        parameters: Vec::new(),
        artifacts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_responses_leave_places_to_other_namespaces() {
        use futures::FutureExt;

        for response in [1, 64 << 10, 1 << 20, 1 << 30] {
            let places = places(response);
            let mut held = Vec::new();
            while let Some(place) = places.take("greedy").now_or_never() {
                held.push(place);
            }
            assert!(!held.is_empty(), "{response}");
            assert!(places.take("other").now_or_never().is_some(), "{response}");
            // A task that never yields gets no further places from tokio.
            tokio::task::yield_now().await;
        }
    }
}
