//! Executions: one run of a template, from the front end's call to the outcome.
//!
//! A front end makes an [`crate::argo::Call`], an id and a [`CancelHandle`], and calls
//! [`Executions::run`]. This folder does not know how a front end receives calls or delivers
//! outcomes.

pub mod cancellation;
mod registry;
mod room;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::argo::repository::Repositories;
use crate::argo::result::{ResultRequest, ResultUse, ResultUses};
use crate::argo::{ArtifactContext, Call, Conversion, Reply, Template};
use crate::config::NamespaceRules;
use crate::pipeline::{Executor, Tees};
use crate::step::{Outcome, Phase, Stage, StepError, StepNames, step_event};

pub use registry::{CancelHandle, Registration, Registry, Running};
pub use room::{Room, Usage, memory_of_request};

/// Everything that an execution needs. One value serves the whole process.
#[derive(Debug)]
pub struct Executions {
    /// Finds the artifact repositories of workflows.
    pub repositories: Repositories,
    /// Finds out how workflows use the results of steps.
    pub result_uses: ResultUses,
    /// What the operator allows the steps of each namespace.
    pub rules: NamespaceRules,
    /// The executor; `None` until it is set up. Calls arrive before that.
    pub executor: watch::Receiver<Option<Arc<Executor>>>,
    /// The running executions.
    pub registry: Registry,
}

/// Result of an execution.
#[derive(Debug)]
pub struct Finished {
    /// Outcome of the step.
    pub outcome: Outcome,
    /// The template, which declares the outputs; `None` if the execution ended before the step
    /// started.
    pub template: Option<Template>,
    /// Whether the execution took longer than the template's own timeout. Argo may have
    /// failed the node already.
    pub timed_out: bool,
}

impl Finished {
    /// The reply in Argo's form.
    pub fn into_reply(self) -> Reply {
        match &self.template {
            Some(template) => Reply::outcome(self.outcome, template),
            None => Reply::not_started(self.outcome.phase, self.outcome.message),
        }
    }

    /// Writes the error to the log too.
    fn before_the_step(names: &StepNames, error: StepError) -> Self {
        error.log(names);
        Self {
            outcome: error.into_outcome(),
            template: None,
            timed_out: false,
        }
    }
}

impl Executions {
    /// Runs a template. The execution is in the registry until the returned future is done.
    ///
    /// Every error becomes an outcome. A panic unwinds: the front end catches the panic, and
    /// delivers [`StepError::panicked`].
    pub async fn run(
        self: Arc<Self>,
        call: Box<Call>,
        names: StepNames,
        cancel: CancelHandle,
    ) -> Finished {
        let _registration = self.registry.register(names.clone(), cancel.clone());
        let span = names.span();
        let execution = pin!(self.execute(call, &names, &cancel));
        execution.instrument(span).await
    }

    /// Whether the executor is set up.
    pub fn is_ready(&self) -> bool {
        self.executor.borrow().is_some()
    }

    async fn execute(&self, call: Box<Call>, names: &StepNames, cancel: &CancelHandle) -> Finished {
        let started = Instant::now();
        let destination = {
            let template = &call.template;
            let waits = template.has_artifacts();
            let find = self
                .repositories
                .destination(&call.workflow, &template.name, waits);
            cancel.token().run_until_cancelled(pin!(find)).await
        };
        let Some(destination) = destination else {
            return Finished::before_the_step(names, cancelled(Stage::Parse, cancel));
        };
        let conversion = Conversion {
            limits: self.rules.limits(&call.workflow.namespace),
            artifacts: ArtifactContext {
                destination,
                ..ArtifactContext::default()
            },
        };
        let format = call.wasm.result;
        let workflow = call.workflow.clone();
        let id = call.wasm.id.clone();
        let (step, template) = match call.into_step(&conversion) {
            Ok(converted) => converted,
            Err(error) => {
                step_event!(INFO, names, phase = %Phase::Error, "template refused");
                let error = StepError::error(Stage::Parse, error.to_string());
                return Finished::before_the_step(names, error);
            }
        };
        let Some(executor) = cancel.token().run_until_cancelled(self.executor()).await else {
            return Finished::before_the_step(names, cancelled(Stage::Queue, cancel));
        };
        let Some(executor) = executor else {
            let message = "the executor could not be set up: see its log";
            return Finished::before_the_step(names, StepError::error(Stage::Queue, message));
        };
        let timeout = step.timeout;
        let token = cancel.token();
        let running = executor.execute(names.clone(), step, token.clone(), Tees::default());
        let mut outcome = pin!(running).await;
        // From here on, a cancellation is too late to be the reason of the outcome.
        if let Some(message) = cancel.failure()
            && outcome.phase == Phase::Error
        {
            outcome.phase = Phase::Failed;
            message.clone_into(&mut outcome.message);
        }
        let timed_out = timeout.is_some_and(|timeout| started.elapsed() >= timeout);
        if outcome.result.is_some() {
            let request = format
                .depends_on_use()
                .then(|| ResultRequest::new(workflow, &template, id));
            format.apply(self.result_use(request, token).await, &mut outcome);
        }
        Finished {
            outcome,
            template: Some(template),
            timed_out,
        }
    }

    /// How the workflow uses the result of a step. Unknown without a request, and if the execution
    /// is cancelled meanwhile.
    async fn result_use(
        &self,
        request: Option<ResultRequest>,
        cancel: &CancellationToken,
    ) -> ResultUse {
        let Some(request) = request else {
            return ResultUse::Unknown;
        };
        let find = Box::pin(self.result_uses.of(&request));
        let used = cancel.run_until_cancelled(find).await;
        used.unwrap_or(ResultUse::Unknown)
    }

    /// Waits for the executor. `None` if it cannot be set up.
    async fn executor(&self) -> Option<Arc<Executor>> {
        let mut executor = self.executor.clone();
        let ready = executor.wait_for(Option::is_some).await.ok()?;
        ready.clone()
    }
}

/// The error of a step that was cancelled before it started.
fn cancelled(stage: Stage, cancel: &CancelHandle) -> StepError {
    match cancel.failure() {
        Some(message) => StepError::failed(stage, message),
        None => StepError::error(stage, "the step was cancelled"),
    }
}
