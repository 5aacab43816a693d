//! The stages of a step that has a slot. File calls may block here.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tracing::Instrument;

use super::collect::{Collected, collect};
use super::invocation::{arguments, environment, invocation};
use super::log_artifact::LogWriter;
use super::messages::finish_message;
use super::prepared::PreparedModule;
use super::resources::{Resources, Tees};
use super::stage::StepContext;
use crate::runtime::{self, GuestLimits, Report, Run};
use crate::staging::{self, StepDirectory};
use crate::step::{Outcome, Phase, Stage, Step, StepError, StepNames, StoredOutput};

/// Number of artifacts that a message names.
const NAMED_ARTIFACTS: usize = 10;

/// A step that has a slot.
#[derive(Debug)]
pub(super) struct RunningStep {
    resources: Arc<Resources>,
    names: StepNames,
    step: Arc<Step>,
    module: PreparedModule,
    context: StepContext,
    /// When the step began in its slot. Until then, the time of its construction.
    began: Instant,
    /// `None` when the module cannot reach files.
    directory: Option<StepDirectory>,
    /// `None` when the step's output is not stored.
    log: Option<io::Result<LogWriter>>,
}

impl RunningStep {
    pub(super) fn new(
        resources: Arc<Resources>,
        names: StepNames,
        step: Arc<Step>,
        module: PreparedModule,
        context: StepContext,
    ) -> Self {
        Self {
            resources,
            names,
            step,
            module,
            context,
            began: Instant::now(),
            directory: None,
            log: None,
        }
    }

    /// Notes that the step begins. Call this in the slot: a wake-up of the slot's thread can take
    /// longer than a short step, and must not be part of the step's duration.
    pub(super) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Creates the step's directory, and copies the inputs into it.
    pub(super) async fn stage_in(&mut self) -> Result<(), StepError> {
        if !self.module.module.uses_file_system() {
            return Ok(());
        }
        let creating = async { StepDirectory::create(&self.resources.scratch, &self.step) };
        let directory = self.context.observe(Stage::StageIn, creating).await?;
        let directory = self.directory.insert(directory);
        let staging = staging::stage_in(
            Arc::clone(&self.step),
            directory,
            &self.resources.stores,
            &self.resources.handle,
        );
        let details = || {
            let names = self.step.inputs.iter().map(|input| input.name.as_str());
            unfinished(names)
        };
        self.step = self
            .context
            .stage_with_details(Stage::StageIn, staging, details)
            .await?;
        Ok(())
    }

    /// Runs the module. The runtime ends the module at the deadline and at the cancellation, and
    /// reports the output of the module until then.
    pub(super) async fn run_module(&mut self, tees: Tees) -> Result<Report, StepError> {
        let step = &*self.step;
        let scratch = self.resources.scratch.path();
        let location = step.logs.as_ref();
        self.log = location.map(|location| LogWriter::start(location, scratch));
        let tees = match &self.log {
            Some(Ok(log)) => Tees {
                stdout: Some(log.tee(tees.stdout)),
                stderr: Some(log.tee(tees.stderr)),
            },
            _ => tees,
        };
        let defaults = self.module.defaults();
        let args = arguments(step, defaults);
        let env = environment(step, defaults);
        let run = Run {
            args: &args,
            env: &env,
            stdin: Bytes::copy_from_slice(step.stdin.as_bytes()),
            directory: self.directory.as_ref().map(StepDirectory::path),
            limits: GuestLimits {
                memory: step.limits.memory,
                time: step.limits.time,
                output: step.limits.output,
                disk: step.limits.disk,
                entries: step.limits.entries,
                min_free_disk: self.resources.min_free_disk,
                outcome: self.resources.outputs.outcome(),
            },
            deadline: self.context.deadline(),
            cancel: self.context.cancellation().clone(),
            invocation: &|| invocation(step),
            stdout: tees.stdout,
            stderr: tees.stderr,
            log: self.resources.log_module_output.then_some(&self.names),
        };
        let engines = self.resources.compiler.engines();
        let ran = pin!(runtime::run(engines, &self.module.module, run));
        self.context
            .observe(Stage::Run, ran)
            .await
            .map_err(|error| {
                let message = format!("the sandbox could not be created: {error:#}");
                StepError::error(Stage::Run, message)
            })
    }

    /// Decides the outcome, and finds the outputs.
    pub(super) async fn collect(&self, report: Report) -> Collected {
        let directory = self.directory.as_ref();
        let limits = &self.resources.outputs;
        self.context
            .observe(Stage::Collect, async {
                collect(&self.step, &self.context, report, directory, limits)
            })
            .await
    }

    /// Stores the outputs and the log, and completes the message.
    pub(super) async fn stage_out(&mut self, collected: Collected) -> Outcome {
        let mut outcome = self.store_outputs(collected).await;
        if let Some(log) = self.log.take() {
            match self.store_log(log).await {
                Ok(stored) => outcome.artifacts.push(stored),
                // The step's own outcome does not change.
                Err(error) => outcome.add_note(&format!("the log could not be stored: {error}")),
            }
        }
        finish_message(&mut outcome, self.module.digest(), &self.resources.outputs);
        outcome
    }

    async fn store_outputs(&self, collected: Collected) -> Outcome {
        let Collected { mut outcome, files } = collected;
        let directory = match &self.directory {
            Some(directory) if outcome.phase == Phase::Succeeded => directory,
            _ => return outcome,
        };
        let staging = staging::stage_out(
            &self.step,
            &files,
            directory,
            &self.resources.stores,
            &self.resources.handle,
        );
        let details = || unfinished(files.iter().map(|file| file.name.as_str()));
        let stored = self
            .context
            .stage_with_details(Stage::StageOut, staging, details)
            .await;
        match stored {
            Ok(artifacts) => {
                note_left_out_links(&mut outcome, &artifacts);
                outcome.artifacts = artifacts;
                outcome
            }
            Err(error) => {
                error.log(&self.names);
                error.into_outcome_after(outcome)
            }
        }
    }

    async fn store_log(&self, log: io::Result<LogWriter>) -> Result<StoredOutput, StepError> {
        let failed =
            |error: &dyn std::fmt::Display| StepError::error(Stage::StageOut, error.to_string());
        let log = log
            .and_then(LogWriter::finish)
            .map_err(|error| failed(&error))?;
        let stores = self.resources.stores.clone();
        let namespace = self.step.workflow.namespace.clone();
        let storing = async move { log.store(&stores, &namespace).await };
        let storing = storing.in_current_span();
        let storing = self
            .resources
            .stores
            .spawn_on(storing, &self.resources.handle);
        let stored = async {
            let stored = storing.await.map_err(|error| failed(&error))?;
            stored.map_err(|error| failed(&error.describe()).caused_by(error))
        };
        self.context.stage(Stage::StageOut, stored).await
    }

    /// Gives the directory to the cleaner, and records the time that the step was in its slot.
    pub(super) fn end(self) {
        if let Some(directory) = self.directory {
            self.resources.cleaner.remove(directory);
        }
        self.module.module.record_duration(self.began.elapsed());
    }
}

/// Names the artifacts of a transfer that was ended early, for the end of a message.
fn unfinished<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names = names.take(NAMED_ARTIFACTS).map(|name| format!("`{name}`"));
    let names: Vec<String> = names.collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!(" while transferring the artifacts {}", names.join(", ")),
    }
}

fn note_left_out_links(outcome: &mut Outcome, artifacts: &[StoredOutput]) {
    for output in artifacts {
        if output.links_left_out > 0 {
            outcome.add_note(&format!(
                "links left out of the artifact `{}`: {}",
                output.name, output.links_left_out
            ));
        }
    }
}
