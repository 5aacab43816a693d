//! The pipeline: the stages of a step, in one line.
//!
//! ```text
//! parse ─ resolve ─ fetch ─ compile ─ queue ─▶ stage in ─ run ─ collect ─ stage out
//! front   └── on the server's async threads ┘  └─ in a slot of the scheduler ─────┘
//! door
//! ```
//!
//! Read [`Executor::execute`] and the functions after it: they show this line as code. The files
//! beside this one contain the stages.

mod collect;
mod full_results;
mod invocation;
mod log_artifact;
mod messages;
mod outputs;
mod preparations;
mod prepare;
mod prepared;
mod reported;
mod resources;
mod running;
mod stage;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use artifacts::Stores;
use sources::Sources;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::runtime::{
    Class, CompiledModule, Compiler, CompilerSettings, Runners, Slot, SlotRequest,
};
use crate::sandbox;
use crate::staging::{Cleaner, Scratch};
use crate::step::{Outcome, Stage, Step, StepError, StepNames, step_event};
use crate::telemetry::Metrics;
use prepare::{CompileSettings, Modules};
use prepared::{ParkedModule, PreparedModule};
use resources::Resources;
use running::RunningStep;
use stage::StepContext;

pub use full_results::{FullResults, TemplateKey};
pub use resources::{Settings, Tees};

/// Runs steps. Made once for each process.
#[derive(Debug)]
pub struct Executor {
    modules: Modules,
    runners: Runners,
    results_full: watch::Receiver<FullResults>,
    /// See [`Settings::has_tenants`].
    has_tenants: bool,
    metrics: Metrics,
    resources: Arc<Resources>,
}

impl Executor {
    /// Runs a step. Every error becomes an outcome.
    ///
    /// The front end has converted its template to the step, which is the stage `parse`. `cancel`
    /// ends the step in any stage. The front end enters the span of the step (`names.span()`).
    pub async fn execute(
        &self,
        names: StepNames,
        step: Step,
        cancel: CancellationToken,
        tees: Tees,
    ) -> Outcome {
        let started = Instant::now();
        let _open = self.metrics.step_opens();
        let step = Arc::new(step);
        let context = StepContext::new(&step, started, cancel, &self.metrics);
        let run = pin!(self.run(names.clone(), step, context, tees));
        let outcome = run.await.unwrap_or_else(|error| self.failed(&names, error));
        self.metrics.step_ended(outcome.phase);
        step_event!(
            INFO,
            &names,
            phase = %outcome.phase,
            exit_code = outcome.exit_code,
            microseconds = started.elapsed().as_micros(),
            reason = outcome.message,
            "step ended"
        );
        outcome
    }

    /// Logs the error of a step, and makes its outcome.
    pub fn failed(&self, names: &StepNames, error: StepError) -> Outcome {
        error.log(names);
        let mut outcome = error.into_outcome();
        // Some messages contain names from modules and manifests, which can be long.
        messages::clip(&mut outcome.message, self.resources.outputs.message);
        outcome
    }

    /// Runs the stages before the slot, acquires the slot, and runs the other stages in the slot.
    async fn run(
        &self,
        names: StepNames,
        step: Arc<Step>,
        context: StepContext,
        tees: Tees,
    ) -> Result<Outcome, StepError> {
        let template = TemplateKey::of(&step.workflow.scope(), &step.template);
        let waiting = self.metrics.step_waits();
        let parked = self.module(&step, template, &context).await?;
        let queued = Instant::now();
        let slot = async { Ok(self.slot(&step, template).await) };
        let slot = context.while_queued().stage(Stage::Queue, slot).await?;
        let context = context.after_queue(queued);
        context.check(Stage::Queue)?;
        drop(waiting);
        let _running = self.metrics.step_runs();
        let module = self.take(parked, &step, template, &context).await?;

        let compiled = Arc::clone(&module.module);
        // A step whose output is stored writes to a file, which can block.
        let short = compiled.is_short() && step.logs.is_none();
        let resources = Arc::clone(&self.resources);
        let running = RunningStep::new(resources, names, step, module, context.clone());
        // The future is several KiB. In a box, a move copies only the pointer.
        let running = Box::pin(run_in_slot(running, tees)).in_current_span();
        let ran = self
            .runners
            .run(slot, short, || compiled.record_overrun(), running);
        let ran = async {
            ran.await
                .unwrap_or_else(|| Err(StepError::panicked(Stage::Run)))
        };
        context.with_grace(ran).await
    }

    fn class(&self, step: &Step, template: TemplateKey) -> Class {
        let tenant = self.has_tenants.then(|| {
            let mut hasher = DefaultHasher::new();
            step.workflow.namespace.hash(&mut hasher);
            hasher.finish()
        });
        Class {
            tenant,
            template: template.class(),
        }
    }

    /// Waits for a slot, and for room for the step's result.
    async fn slot(&self, step: &Step, template: TemplateKey) -> Slot {
        let request = SlotRequest {
            class: self.class(step, template),
            memory: step.limits.memory,
        };
        let mut full = self.results_full.clone();
        loop {
            // Without a front end that keeps results, there is always room.
            let _ = full.wait_for(|full| !full.stops(template)).await;
            let slot = self.runners.acquire(request).await;
            if !full.borrow().stops(template) {
                return slot;
            }
        }
    }

    fn compile_settings(&self, step: &Step, template: TemplateKey) -> CompileSettings {
        CompileSettings {
            class: self.class(step, template),
            memory: step.limits.memory,
            limits: step.limits.compile,
        }
    }

    /// Takes the module of a step that has a slot. Usually it is in the cache.
    async fn take(
        &self,
        parked: ParkedModule,
        step: &Step,
        template: TemplateKey,
        context: &StepContext,
    ) -> Result<PreparedModule, StepError> {
        let parked = match parked.in_memory() {
            Ok(module) => return Ok(module),
            Err(parked) => parked,
        };
        let requester = step.request().requester;
        let settings = self.compile_settings(step, template);
        let taking = pin!(self.modules.take(parked, &requester, settings));
        context.stage(Stage::Fetch, taking).await
    }

    /// Runs the stages resolve, fetch and compile. Returns a module that was compiled.
    async fn module(
        &self,
        step: &Step,
        template: TemplateKey,
        context: &StepContext,
    ) -> Result<ParkedModule, StepError> {
        let request = step.request();
        let settings = self.compile_settings(step, template);
        let resolving = pin!(self.modules.resolve(&request));
        let resolved = context.stage(Stage::Resolve, resolving).await?;
        let fetching = pin!(self.modules.fetch(&resolved, &request.requester));
        let fetched = context.stage(Stage::Fetch, fetching).await?;
        let compiling = pin!(self.modules.compile(fetched, settings));
        context.stage(Stage::Compile, compiling).await
    }
}

/// Runs the stages that need a slot.
async fn run_in_slot(mut step: RunningStep, tees: Tees) -> Result<Outcome, StepError> {
    step.begin();
    let outcome = async {
        step.stage_in().await?;
        let report = step.run_module(tees).await?;
        let collected = step.collect(report).await;
        Ok(step.stage_out(collected).await)
    }
    .await;
    step.end();
    outcome
}

impl Executor {
    /// Starts the engines and the threads for steps. Call this on a tokio runtime.
    ///
    /// # Errors
    ///
    /// The machine has too few threads or too little address space.
    pub fn new(sources: Sources, stores: Stores, settings: Settings) -> wasmtime::Result<Self> {
        raise_open_files();
        let capacity = settings.capacity;
        let compiler = Compiler::new(CompilerSettings {
            steps: capacity.steps,
            code_directory: settings.code,
            program: sandbox::this_program(),
            memory: settings.compile_memory,
        })?;
        let compiler = Arc::new(compiler);
        let handle = Handle::current();
        let runners = Runners::start(capacity, handle.metrics().num_workers())?;
        let resources = Resources {
            stores,
            compiler: Arc::clone(&compiler),
            scratch: Scratch::new(settings.scratch),
            cleaner: Cleaner::start()?,
            handle,
            min_free_disk: settings.min_free_disk,
            outputs: settings.outputs,
            log_module_output: settings.log_module_output,
        };
        Ok(Self {
            modules: Modules::new(sources, compiler),
            runners,
            results_full: settings.results_full,
            has_tenants: settings.has_tenants,
            metrics: settings.metrics,
            resources: Arc::new(resources),
        })
    }

    /// Checks whether directories of steps can be created. Modules that use no files need no
    /// directory.
    pub fn check_scratch(&self) -> std::io::Result<()> {
        self.resources.scratch.check()
    }

    /// Prepares the module of a step without running it.
    pub async fn prepare(&self, step: &Step) -> Result<Arc<CompiledModule>, StepError> {
        let context = StepContext::unbounded(&self.metrics);
        let template = TemplateKey::of(&step.workflow.scope(), &step.template);
        let parked = self.module(step, template, &context).await?;
        let prepared = self.take(parked, step, template, &context).await?;
        Ok(prepared.module)
    }

    /// Blocks until the directories of all ended steps are removed.
    pub fn clean_up(&self) {
        self.resources.cleaner.finish();
    }
}

/// Raises the limit on open files, because open files of guests are open files of this process.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}
