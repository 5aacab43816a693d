//! The straight line of a step.
//!
//! ```text
//! resolve ─ fetch ─ compile ─▶ stage in ─ run ─ collect ─ stage out
//! └── async ───────────────┘   └── one of the runners' places ─────┘
//! ```

mod collect;
mod invocation;
mod log_artifact;
mod prepare;

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifacts::Stores;
use bytes::Bytes;
use sources::{Defaults, Request, Sources};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::step::{ExecutionId, Outcome, Phase, Stage, Step, StepError};
use log_artifact::Logs;
use prepare::{Modules, Ready};

use crate::runtime::{
    self, Capacity, Compiler, GuestLimits, Report, Run, Runners, SlotRequest, Tee,
};
use crate::staging::{self, Cleaner, Scratch, StepDirectory};
pub use collect::{Bounds, is_artifact_name};

/// What every step shares. Made once for each process.
#[derive(Debug)]
pub struct Executor {
    sources: Sources,
    stores: Stores,
    modules: Modules,
    compiler: Arc<Compiler>,
    runners: Runners,
    scratch: Scratch,
    cleaner: Cleaner,
    settings: Settings,
    /// The server's async threads: transfers run there, and not on a runner's small runtime, which stands still between steps.
    handle: Handle,
}

/// What the operator decided for all steps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many steps run at once, and in how much memory.
    pub capacity: Capacity,
    /// Where step directories are made.
    pub scratch: PathBuf,
    /// Where compiled code is kept, if anywhere.
    pub code: Option<PathBuf>,
    /// Bytes that must stay free where step directories are made.
    pub disk_free: u64,
    /// Bounds on what a step reports.
    pub outputs: Bounds,
}

/// Gets copies of what the module writes, as it does.
#[derive(Default)]
pub struct Tees {
    /// Of standard output.
    pub stdout: Option<Tee>,
    /// Of standard error.
    pub stderr: Option<Tee>,
}

impl std::fmt::Debug for Tees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tees").finish_non_exhaustive()
    }
}

impl Executor {
    /// Sets up the engines and the runners. Call it on a tokio runtime.
    ///
    /// # Errors
    ///
    /// The machine refuses threads or address space.
    pub fn new(sources: Sources, stores: Stores, settings: Settings) -> wasmtime::Result<Self> {
        raise_open_files();
        let compiler = Arc::new(Compiler::new(
            settings.capacity.steps,
            settings.code.as_deref(),
        )?);
        let modules = Modules::new(sources.clone(), Arc::clone(&compiler));
        let handle = Handle::current();
        let runners = Runners::start(settings.capacity, handle.metrics().num_workers())?;
        let scratch = Scratch::new(&settings.scratch);
        Ok(Self {
            sources,
            stores,
            modules,
            compiler,
            runners,
            scratch,
            cleaner: Cleaner::start()?,
            settings,
            handle,
        })
    }

    /// Whether steps' directories can be made. Steps of modules that use no files run without.
    pub fn check_scratch(&self) -> std::io::Result<()> {
        self.scratch.check()
    }

    /// Runs a step. Whatever happens, there is an outcome.
    pub async fn execute(
        self: &Arc<Self>,
        id: ExecutionId,
        step: Step,
        cancel: CancellationToken,
        tees: Tees,
    ) -> Outcome {
        let started = Instant::now();
        let (workflow, template) = (step.workflow.name.clone(), step.template.clone());
        let mut outcome = match self.straight_line(step, started, cancel, tees).await {
            Ok(outcome) => outcome,
            Err(error) => error.into_outcome(),
        };
        // Names out of modules and manifests are in some messages: however long they are, the node's message is not.
        collect::clip(&mut outcome.message, self.settings.outputs.message);
        tracing::info!(
            %id,
            workflow,
            template,
            phase = ?outcome.phase,
            exit_code = outcome.exit_code,
            microseconds = started.elapsed().as_micros(),
            said = ?outcome.message,
            "step"
        );
        outcome
    }

    /// Blocks until nothing of steps that are over is left on disk.
    pub fn clean_up(&self) {
        self.cleaner.finish();
    }

    /// Makes the module ready without running it.
    pub async fn prepare(&self, request: &Request) -> Result<(), StepError> {
        self.ready(request).await.map(drop)
    }

    async fn ready(&self, request: &Request) -> Result<Ready, StepError> {
        let resolved = self
            .sources
            .resolve(request)
            .await
            .map_err(|error| StepError::from_source(Stage::Resolve, &error))?;
        self.modules
            .get(&resolved, &request.requester)
            .await
            .map_err(|shared| share(&shared))
    }

    async fn straight_line(
        self: &Arc<Self>,
        step: Step,
        started: Instant,
        cancel: CancellationToken,
        tees: Tees,
    ) -> Result<Outcome, StepError> {
        let whole = step.limits.whole;
        let deadline = step
            .timeout
            .and_then(|timeout| started.checked_add(timeout));
        let request = step.request();
        let ready = tokio::select! {
            biased;
            ready = self.ready(&request) => ready?,
            () = cancel.cancelled() => return Err(cancelled(Stage::Fetch)),
            () = until(deadline) => return Err(collect::timed_out(&step, Stage::Fetch)),
            () = tokio::time::sleep(whole) => return Err(collect::timed_out(&step, Stage::Fetch)),
        };
        // Waiting for a place among others is not the step's own time.
        let left = whole.saturating_sub(started.elapsed());
        let claim = claim(&step);
        let (this, step, gone) = (Arc::clone(self), Arc::new(step), cancel.clone());
        let waiting = Arc::clone(&step);
        let module = Arc::clone(&ready.module);
        let job = async move {
            let own = Instant::now().checked_add(left);
            let deadline = deadline.into_iter().chain(own).min();
            let on_runner = OnRunner {
                executor: &this,
                step,
                ready: &ready,
                deadline,
                cancel,
            };
            on_runner.run(tees).await
        };
        let ran = async {
            let slot = self.runners.acquire(claim).await;
            let on_overrun = || module.record_overrun();
            let job = Box::pin(job);
            let ran = self.runners.run(slot, module.is_short(), on_overrun, job);
            ran.await
        };
        // On a runner the step looks at both by itself, and says more. Here they end the waiting for one.
        tokio::select! {
            biased;
            ran = ran => ran.unwrap_or_else(|| Err(StepError::error(Stage::Run, "the step panicked; this is a defect of this program"))),
            () = after(until(deadline)) => Err(collect::timed_out(&waiting, Stage::Queue)),
            () = after(gone.cancelled()) => Err(cancelled(Stage::Queue)),
        }
    }
}

/// How long a step that runs may take to end itself.
const GRACE: Duration = Duration::from_secs(1);

async fn after(event: impl Future<Output = ()>) {
    event.await;
    tokio::time::sleep(GRACE).await;
}

/// Steps of one template of one workflow with one module are of a kind.
fn claim(step: &Step) -> SlotRequest {
    let mut class = DefaultHasher::new();
    (
        &step.workflow.namespace,
        &step.workflow.name,
        &step.workflow.uid,
        &step.template,
    )
        .hash(&mut class);
    step.module.hash(&mut class);
    SlotRequest {
        class: class.finish(),
        memory: step.limits.memory,
    }
}

fn cancelled(stage: Stage) -> StepError {
    StepError::error(stage, "the step was cancelled")
}

/// Which artifacts a step waited for.
fn on_their_way<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.take(10).map(|name| format!("`{name}`")).collect();
    format!(", with artifacts on their way: {}", names.join(", "))
}

/// Guests' open files are this process's: the soft limit is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files stays");
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The same error for everyone who waited for the same module.
fn share(shared: &Arc<StepError>) -> StepError {
    let error = match shared.phase() {
        Phase::Failed => StepError::failed(shared.stage(), shared.to_string()),
        _ => StepError::error(shared.stage(), shared.to_string()),
    };
    error.caused_by(Arc::clone(shared))
}

/// The second half of the line, where file calls may block.
struct OnRunner<'a> {
    executor: &'a Executor,
    step: Arc<Step>,
    ready: &'a Ready,
    deadline: Option<Instant>,
    cancel: CancellationToken,
}

impl OnRunner<'_> {
    async fn run(mut self, tees: Tees) -> Result<Outcome, StepError> {
        // It may have waited for its place for long.
        if self.cancel.is_cancelled() {
            return Err(cancelled(Stage::Queue));
        }
        if self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(collect::timed_out(&self.step, Stage::Queue));
        }
        let began = Instant::now();
        let directory = match self.ready.module.uses_file_system() {
            true => Some(StepDirectory::create(&self.executor.scratch, &self.step)?),
            false => None,
        };
        let outcome = self.in_directory(directory.as_ref(), tees).await;
        if let Some(directory) = directory {
            self.executor.cleaner.remove(directory);
        }
        self.ready.module.record_duration(began.elapsed());
        outcome
    }

    async fn in_directory(
        &mut self,
        directory: Option<&StepDirectory>,
        tees: Tees,
    ) -> Result<Outcome, StepError> {
        if let Some(directory) = directory {
            self.stage_in(directory).await?;
        }
        let logs = self
            .step
            .logs
            .as_ref()
            .map(|location| Logs::start(location, self.executor.scratch.path()));
        let tees = match &logs {
            Some(Ok(logs)) => Tees {
                stdout: Some(logs.tee(tees.stdout)),
                stderr: Some(logs.tee(tees.stderr)),
            },
            _ => tees,
        };
        let report = self.run_module(directory, tees).await?;
        self.finish(report, directory, logs).await
    }

    /// Keeps the log, however the module ended. That it could not be kept is said, and changes nothing else.
    async fn keep(&self, logs: std::io::Result<Logs>, outcome: &mut Outcome) {
        let (stores, namespace) = (
            self.executor.stores.clone(),
            self.step.workflow.namespace.clone(),
        );
        // Not on this runner: connections live on where they were made.
        let opened = stores.clone();
        let storing = async move {
            let logs = logs.map_err(|error| error.to_string())?;
            logs.store(opened, namespace)
                .await
                .map_err(|error| error.to_string())
        };
        let stored = tokio::select! {
            biased;
            stored = stores.spawn_on(storing, &self.executor.handle) => stored.unwrap_or_else(|error| Err(error.to_string())),
            () = self.cancel.cancelled() => Err("the step was cancelled".to_owned()),
            () = until(self.deadline) => Err("the step's time was over".to_owned()),
        };
        match stored {
            Ok(produced) => outcome.artifacts.push(produced),
            Err(error) => outcome.note(&format!("the log is not kept: {error}")),
        }
    }

    async fn stage_in(&mut self, directory: &StepDirectory) -> Result<(), StepError> {
        let asked = Arc::clone(&self.step);
        tokio::select! {
            biased;
            staged = staging::stage_in(&mut self.step, directory, &self.executor.stores, &self.executor.handle) => staged,
            () = self.cancel.cancelled() => Err(cancelled(Stage::StageIn)),
            () = until(self.deadline) => {
                let names = asked.inputs.iter().map(|input| input.name.as_str());
                Err(collect::timed_out(&asked, Stage::StageIn).and(&on_their_way(names)))
            }
        }
    }

    async fn run_module(
        &self,
        directory: Option<&StepDirectory>,
        tees: Tees,
    ) -> Result<Report, StepError> {
        let step = &*self.step;
        let defaults = self.ready.defaults();
        let args = arguments(step, defaults);
        let env = environment(step, defaults);
        let run = Run {
            args: &args,
            env: &env,
            stdin: Bytes::copy_from_slice(step.stdin.as_bytes()),
            directory: directory.map(StepDirectory::path),
            limits: GuestLimits {
                memory: step.limits.memory,
                time: step.limits.time,
                output: step.limits.output,
                disk: step.limits.disk,
                entries: step.limits.entries,
                min_free_disk: self.executor.settings.disk_free,
            },
            deadline: self.deadline,
            cancel: self.cancel.clone(),
            invocation: &|| invocation::invocation(step),
            stdout: tees.stdout,
            stderr: tees.stderr,
        };
        runtime::run(self.executor.compiler.engines(), &self.ready.module, run)
            .await
            .map_err(|error| {
                StepError::error(
                    Stage::Run,
                    format!("the sandbox could not be made: {error:#}"),
                )
                .retryable(true)
            })
    }

    async fn finish(
        &self,
        report: Report,
        directory: Option<&StepDirectory>,
        logs: Option<std::io::Result<Logs>>,
    ) -> Result<Outcome, StepError> {
        let bounds = &self.executor.settings.outputs;
        let collected = collect::collect(&self.step, report, directory, bounds);
        let (mut outcome, made) = collected;
        if outcome.phase == Phase::Succeeded
            && let Some(directory) = directory
        {
            let stored = tokio::select! {
                biased;
                stored = staging::stage_out(&self.step, &made, directory, &self.executor.stores, &self.executor.handle) => stored,
                () = self.cancel.cancelled() => Err(cancelled(Stage::StageOut)),
                () = until(self.deadline) => {
                    let names = made.iter().map(|made| made.name.as_str());
                    Err(collect::timed_out(&self.step, Stage::StageOut).and(&on_their_way(names)))
                }
            };
            match stored {
                Ok(artifacts) => outcome.stored(artifacts),
                // The module did its part: its exit code and result stay.
                Err(error) => outcome = error.over(outcome),
            }
        }
        if let Some(logs) = logs {
            self.keep(logs, &mut outcome).await;
        }
        collect::finish_message(&mut outcome, self.ready.digest(), bounds);
        Ok(outcome)
    }
}

/// The program's name, and its arguments: the template's, or those of the package.
fn arguments(step: &Step, defaults: &Defaults) -> Vec<String> {
    let program = defaults
        .program
        .clone()
        .unwrap_or_else(|| program_name(step));
    let args = step.args.as_ref().unwrap_or(&defaults.args);
    [program]
        .into_iter()
        .chain(defaults.fixed_args.iter().cloned())
        .chain(args.iter().cloned())
        .collect()
}

/// What every guest gets, below that the package's, below that the template's.
fn environment(step: &Step, defaults: &Defaults) -> Vec<(String, String)> {
    let ours = [("PWD", "/"), ("HOME", "/"), ("TMPDIR", "/tmp")];
    let ours = ours.iter().copied();
    let given = defaults
        .env
        .iter()
        .chain(&step.env)
        .map(|(name, value)| (name.as_str(), value.as_str()));
    // The last of a name counts.
    let env: BTreeMap<&str, &str> = ours.chain(given).collect();
    env.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `argv[0]`: the reference's name for the program.
fn program_name(step: &Step) -> String {
    let name = step.module.program_name();
    name.unwrap_or_else(|| "module".to_owned())
}
