//! Running a guest once. This is the hot path: what can be made once for each module or process is not made here.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use super::bindings::wasm_workflow::step::types;
use super::compiler::Compiler;
use super::host::Host;
use super::limits::{Limits, Stop, Watch};
use super::module::{Entry, Module};
use super::output::{Captured, Output, Tee};

pub use types::Invocation;

/// A time that nobody reaches, and that can be added to any.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 100);

/// What one run gets. Nothing else is visible to the guest.
pub struct Run<'a> {
    /// The arguments, the program's name first.
    pub args: &'a [String],
    /// The environment variables.
    pub env: &'a [(String, String)],
    /// Standard input.
    pub stdin: Bytes,
    /// The guest's `/`, if it has files.
    pub directory: Option<&'a Path>,
    /// What it may use.
    pub limits: Limits,
    /// When it has to be over, if that is sooner than `limits.time` from now.
    pub deadline: Option<Instant>,
    /// Stops it.
    pub cancel: CancellationToken,
    /// What a module of the step world is called with.
    pub invocation: &'a (dyn Fn() -> Invocation + Sync),
    /// Gets what the guest writes to standard output, as it does.
    pub stdout: Option<Tee>,
    /// Gets what the guest writes to standard error, as it does.
    pub stderr: Option<Tee>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("args", &self.args)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Ending {
    /// The command exited with this code.
    Exited(i32),
    /// The step function returned this.
    Returned(types::Outcome),
    /// The step function returned this error.
    Failed(String),
    /// The guest did something that WebAssembly or WASI forbids.
    Trapped(String),
    /// A limit, or the caller, stopped it.
    Stopped(Stop),
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote to standard output.
    pub stdout: Captured,
    /// What it wrote to standard error.
    pub stderr: Captured,
}

/// Runs the module, where blocking is allowed.
///
/// # Errors
///
/// The sandbox could not be made: an error of this machine, not of the module.
pub async fn run(
    compiler: &Compiler,
    module: &Module,
    mut run: Run<'_>,
) -> wasmtime::Result<Report> {
    let engines = compiler.engines();
    let now = Instant::now();
    let end = now.checked_add(run.limits.time).unwrap_or(now + FOREVER);
    let deadline = match run.deadline {
        Some(whole) if whole < end => (whole, Stop::Whole),
        _ => (end, Stop::Time),
    };
    let directory = run.directory.map(Path::to_owned);
    let watch = Arc::new(Watch::new(
        run.limits.clone(),
        deadline,
        run.cancel.clone(),
        directory,
    ));
    let stdout = Output::new(Arc::clone(&watch), run.stdout.take());
    let stderr = Output::new(Arc::clone(&watch), run.stderr.take());
    let host = Host::new(&run, &watch, &stdout, &stderr)?;
    let engine = if module.pooled() {
        &engines.pooled.engine
    } else {
        &engines.on_demand.engine
    };
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.limiter);
    store.set_epoch_deadline(1);
    let (watching, mut first) = (Arc::clone(&watch), true);
    store.epoch_deadline_callback(move |_| {
        // Once, and before anything else, so that whoever runs this can give a longer guest another place.
        if std::mem::take(&mut first) {
            return Ok(UpdateDeadline::Yield(1));
        }
        watching
            .check()
            .map(|()| UpdateDeadline::Continue(1))
            .map_err(Into::into)
    });

    let ticking = engines.ticker.tick();
    // The epoch ends guest code; this ends a guest that waits in a host call.
    let result = tokio::select! {
        biased;
        result = call(&mut store, &module.entry, run.invocation) => result,
        () = watch.cancel().cancelled() => Err(watch.stop(Stop::Cancelled).into()),
        () = tokio::time::sleep_until(watch.deadline().into()) => Err(watch.is_late().into()),
    };
    drop(ticking);

    let ending = match (watch.stopped(), result) {
        (Some(stop), _) => Ending::Stopped(stop),
        (None, Ok(ending)) => ending,
        (None, Err(error)) if error.is::<PoolConcurrencyLimitError>() => return Err(error),
        (None, Err(error)) => ending_of(&error),
    };
    Ok(Report {
        ending,
        stdout: stdout.take(),
        stderr: stderr.take(),
    })
}

async fn call(
    store: &mut Store<Host>,
    entry: &Entry,
    invocation: &(dyn Fn() -> Invocation + Sync),
) -> wasmtime::Result<Ending> {
    let exited = |result: Result<(), ()>| Ending::Exited(i32::from(result.is_err()));
    match entry {
        Entry::Core(pre) => {
            let instance = pre.instantiate_async(&mut *store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
            start
                .call_async(store, ())
                .await
                .map(|()| Ending::Exited(0))
        }
        Entry::Command(pre) => {
            let command = pre.instantiate_async(&mut *store).await?;
            command.wasi_cli_run().call_run(store).await.map(exited)
        }
        Entry::CommandP3(pre) => {
            let command = pre.instantiate_async(&mut *store).await?;
            let result = store
                .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
                .await??;
            Ok(exited(result))
        }
        Entry::Step(pre) => {
            let step = pre.instantiate_async(&mut *store).await?;
            Ok(match step.call_run(store, &invocation()).await? {
                Ok(outcome) => Ending::Returned(outcome),
                Err(message) => Ending::Failed(message),
            })
        }
    }
}

/// What an error out of the guest means. Exits come as errors too.
fn ending_of(error: &wasmtime::Error) -> Ending {
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return Ending::Exited(*code);
    }
    tracing::debug!(error = format!("{error:?}"), "the guest trapped");
    let what = match (
        error.downcast_ref::<Trap>(),
        error.downcast_ref::<ResourceTableError>(),
    ) {
        (Some(trap), _) => trap.to_string(),
        (_, Some(ResourceTableError::Full)) => {
            "it holds too many files, streams and other handles at once".to_owned()
        }
        _ => error.root_cause().to_string(),
    };
    Ending::Trapped(what.trim_start_matches("wasm trap: ").to_owned())
}
