//! Runs a module once.
//!
//! This is the hot path. Objects that can be shared by all runs of a module, or by all modules, are
//! made elsewhere. A run makes a `Store` with its host state, instantiates the module, and calls
//! the entry point.
//!
//! Three mechanisms end a run early, because a guest can be in one of three places:
//!
//! - In guest code, the epoch interrupts the guest (see `limits`).
//! - When a host call returns, `host_calls` checks the limits.
//! - In a host call that waits, such as a sleep, [`run`] drops the future of the call.
//!
//! At the first tick of the epoch, a guest always yields once, in guest code or when a host call
//! returns. A caller that polled the run on its own thread then gets `Pending`, and can move a long
//! run to another thread (see `runners`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use super::bindings::wasm_workflow::step::types;
use super::engine::Engines;
use super::entry::Entry;
use super::guest_state::{GuestInput, GuestState, OPEN_RESOURCES};
use super::host_calls::HostCallHook;
use super::host_share::HostShare;
use super::limiter::MAX_WASM_STACK;
use super::limits::{Deadline, GuestLimits, LimitGuard, Stop, Turn};
use super::module::CompiledModule;
use super::module_output::{LineLog, Stream};
use super::output::{Captured, Output, Tee};
use super::unoffered::UnofferedCall;

use crate::step::StepNames;
use crate::text::units::ByteSize;

pub use types::Invocation;

/// Used for a time limit that overflows the clock.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 100);

/// The input of one run. The guest sees nothing else.
pub struct Run<'a> {
    /// Arguments, the program's name first.
    pub args: &'a [String],
    /// Environment variables, as pairs of name and value.
    pub env: &'a [(String, String)],
    /// Content of standard input.
    pub stdin: Bytes,
    /// The directory that is the guest's `/`. `None` for a module that uses no files.
    pub directory: Option<&'a Path>,
    /// Limits of the run.
    pub limits: GuestLimits,
    /// Deadline of the whole step, if it has one. The run also ends when `limits.time` has passed.
    pub deadline: Option<Instant>,
    /// Cancels the run.
    pub cancel: CancellationToken,
    /// Makes the argument of the function `run`. Called only for modules of the step world.
    pub invocation: &'a (dyn Fn() -> Invocation + Sync),
    /// Receives a copy of each write to standard output.
    pub stdout: Option<Tee>,
    /// Receives a copy of each write to standard error.
    pub stderr: Option<Tee>,
    /// Names of the step, for its lines in the log. `None` if the module's output is not logged.
    pub log: Option<&'a StepNames>,
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
    /// The function `run` of the step world returned this outcome.
    Returned(types::Outcome),
    /// The function `run` of the step world returned this error message.
    Failed(String),
    /// The guest trapped, for this reason.
    Trapped(String),
    /// The guest called a function that the host does not offer.
    CalledUnoffered(UnofferedCall),
    /// A limit or the caller stopped the guest.
    Stopped(Stop),
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// How the run ended.
    pub ending: Ending,
    /// Output of the guest on standard output.
    pub stdout: Captured,
    /// Output of the guest on standard error.
    pub stderr: Captured,
}

/// Runs the module. Call this on a thread that may block: the guest's file calls block.
///
/// # Errors
///
/// The sandbox cannot be made. The cause is this machine, not the module.
pub async fn run(
    engines: &Engines,
    module: &CompiledModule,
    mut run: Run<'_>,
) -> wasmtime::Result<Report> {
    let guard = Arc::new(LimitGuard::new(
        run.limits.clone(),
        deadline(&run),
        run.cancel.clone(),
        run.directory.map(Path::to_owned),
        engines.ticker.count(),
    ));
    let share = HostShare::of(
        &run.limits,
        module.kind(),
        module.instance_bytes,
        module.bytes_in_memory(),
    );
    let log = |stream| run.log.and_then(|names| LineLog::new(names, stream));
    let log_stdout = log(Stream::Stdout);
    let log_stderr = log(Stream::Stderr);
    let stdout = Output::new(Arc::clone(&guard), run.stdout.take(), log_stdout);
    let stderr = Output::new(Arc::clone(&guard), run.stderr.take(), log_stderr);
    let state = GuestState::new(GuestInput {
        args: run.args,
        env: run.env,
        stdin: run.stdin,
        directory: run.directory,
        guard: &guard,
        stdout: &stdout,
        stderr: &stderr,
        share,
        file_calls: module.file_calls(),
    })?;
    let engine = &engines.linked(module.allocation).engine;
    let mut store = new_store(engine, state, &guard, share);

    let ticking = engines.ticker.tick();
    let result = tokio::select! {
        biased;
        result = call(&mut store, &module.entry, run.invocation, &stdout) => result,
        () = guard.cancel().cancelled() => Err(guard.stop(Stop::Cancelled).into()),
        () = tokio::time::sleep_until(guard.deadline().into()) => {
            Err(guard.deadline_exceeded().into())
        }
    };
    drop(ticking);

    let ending = match (guard.stopped(), result) {
        (Some(stop), _) => Ending::Stopped(stop),
        (None, Ok(ending)) => ending,
        (None, Err(error)) if error.is::<PoolConcurrencyLimitError>() => return Err(error),
        (None, Err(error)) => ending_of(&error, share),
    };
    Ok(Report {
        ending,
        stdout: stdout.take(),
        stderr: stderr.take(),
    })
}

/// The earlier of the end of the time limit and the deadline of the whole step.
fn deadline(run: &Run<'_>) -> Deadline {
    let now = Instant::now();
    let end = now.checked_add(run.limits.time).unwrap_or(now + FOREVER);
    match run.deadline {
        Some(deadline) if deadline < end => Deadline {
            at: deadline,
            kind: Stop::Deadline,
        },
        _ => Deadline {
            at: end,
            kind: Stop::Time,
        },
    }
}

fn new_store(
    engine: &wasmtime::Engine,
    state: GuestState,
    guard: &Arc<LimitGuard>,
    share: HostShare,
) -> Store<GuestState> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(share.call_bytes);
    store.set_max_component_handles(share.handles);
    store.call_hook_async(HostCallHook::new(guard));
    store.set_epoch_deadline(1);
    let guard = Arc::clone(guard);
    store.epoch_deadline_callback(move |_| match guard.turn() {
        Ok(Turn::Continue) => Ok(UpdateDeadline::Continue(1)),
        Ok(Turn::Yield) => Ok(UpdateDeadline::Yield(1)),
        Err(stop) => Err(stop.into()),
    });
    store
}

async fn call(
    store: &mut Store<GuestState>,
    entry: &Entry,
    invocation: &(dyn Fn() -> Invocation + Sync),
    stdout: &Output,
) -> wasmtime::Result<Ending> {
    store.data().limiter.check()?;
    let exited = |result: Result<(), ()>| Ending::Exited(i32::from(result.is_err()));
    match entry {
        Entry::Core(core) => {
            let printed = core.call(store).await?;
            stdout.print(&printed)?;
            Ok(Ending::Exited(0))
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

/// The ending for an error of the guest. WASI reports an exit as an error too.
fn ending_of(error: &wasmtime::Error, share: HostShare) -> Ending {
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return Ending::Exited(*code);
    }
    tracing::debug!(error = format!("{error:?}"), "the guest trapped");
    if let Some(call) = error.downcast_ref::<UnofferedCall>() {
        return Ending::CalledUnoffered(call.clone());
    }
    let reason = if let Some(Trap::StackOverflow) = error.downcast_ref() {
        let limit = ByteSize(MAX_WASM_STACK as u64);
        format!("call stack exhausted: its limit is {limit}")
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        trap.to_string()
    } else if let Some(ResourceTableError::Full) = error.downcast_ref() {
        format!("it has more than {OPEN_RESOURCES} open files, streams and timers")
    } else {
        let reason = error.root_cause().to_string();
        share.explain(&reason).unwrap_or(reason)
    };
    Ending::Trapped(reason.trim_start_matches("wasm trap: ").to_owned())
}
