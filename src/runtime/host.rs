//! A step's state on the host's side of the sandbox. Made for each step: nothing here may block or read configuration.

use std::path::Path;
use std::sync::Arc;

use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::wasm_workflow::step::types;
use super::limits::{Limiter, Watch};
use super::output::Output;
use super::run::Run;

/// Open files, streams and timers that one guest may hold: a guest must not use up the process's file descriptors.
const HANDLES: usize = 1024;

/// The data of a step's `Store`.
pub(super) struct Host {
    pub(super) wasi: WasiP1Ctx,
    pub(super) limiter: Limiter,
}

impl Host {
    /// The sandbox of one step. Fails when the step's directory cannot be opened.
    pub(super) fn new(
        run: &Run<'_>,
        watch: &Arc<Watch>,
        stdout: &Output,
        stderr: &Output,
    ) -> wasmtime::Result<Self> {
        let mut builder = WasiCtxBuilder::new();
        builder
            // On a runner's thread a blocking file call costs nothing but the call. See `wasi_0_1` for what else this allows.
            .allow_blocking_current_thread(true)
            .args(run.args)
            .envs(run.env)
            .stdin(MemoryInputPipe::new(run.stdin.clone()))
            .stdout(stdout.clone())
            .stderr(stderr.clone());
        if let Some(directory) = run.directory {
            preopen(&mut builder, directory)?;
        }
        let mut wasi = builder.build_p1();
        wasi.ctx().table.set_max_capacity(HANDLES);
        Ok(Self {
            wasi,
            limiter: Limiter::new(Arc::clone(watch)),
        })
    }
}

/// The guest's `/` is the step's directory. No path and no link leads out of it.
fn preopen(builder: &mut WasiCtxBuilder, directory: &Path) -> wasmtime::Result<()> {
    builder.preopened_dir(directory, "/", FsPerms::ReadWrite)?;
    Ok(())
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl types::Host for Host {}
