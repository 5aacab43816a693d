//! The state of one step on the host's side of the sandbox.
//!
//! wasmtime keeps a [`GuestState`] as the data of the step's `Store`, and host functions get access
//! to it. It holds everything that the guest can reach:
//!
//! - arguments, environment variables and standard streams. The environment of this process is not
//!   passed on;
//! - one preopened directory, the step's own;
//! - clocks and random numbers.
//!
//! WASI 0.2 and 0.3 also have sockets. `WasiCtxBuilder` denies all addresses by default, and this
//! file does not change that.
//!
//! A `GuestState` is made for each step, so it must be made fast. Nothing here may read
//! configuration. Only the open of the step's directory may block.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::wasm_workflow::step::types;
use super::file_calls::FileCalls;
use super::host_share::HostShare;
use super::limiter::Limiter;
use super::limits::LimitGuard;
use super::output::Output;

/// Maximum number of files, streams and timers that one guest may hold open. The limit protects the
/// file descriptors of this process. The other handles of a component are limited by `host_share`.
pub(super) const OPEN_RESOURCES: usize = 1024;

/// The data of a step's `Store`.
pub(super) struct GuestState {
    pub(super) wasi: WasiP1Ctx,
    pub(super) limiter: Limiter,
    pub(super) guard: Arc<LimitGuard>,
    /// Numbers of the directory lists that the guest has opened. The guest may have dropped some.
    pub(super) open_lists: Vec<u32>,
}

/// Everything that the guest of one step can see.
pub(super) struct GuestInput<'a> {
    /// Arguments, the program's name first.
    pub(super) args: &'a [String],
    /// Environment variables, as pairs of name and value.
    pub(super) env: &'a [(String, String)],
    pub(super) stdin: Bytes,
    /// The guest's `/`. `None` for a module that uses no files.
    pub(super) directory: Option<&'a Path>,
    pub(super) guard: &'a Arc<LimitGuard>,
    pub(super) stdout: &'a Output,
    pub(super) stderr: &'a Output,
    pub(super) share: HostShare,
    pub(super) file_calls: FileCalls,
}

impl GuestState {
    /// The sandbox of one step. Fails when the step's directory cannot be opened.
    pub(super) fn new(input: GuestInput<'_>) -> wasmtime::Result<Self> {
        let mut builder = WasiCtxBuilder::new();
        builder
            // The folder `wasi_0_1` handles a side effect of this setting.
            .allow_blocking_current_thread(input.file_calls == FileCalls::OnGuestThread)
            .max_random_size(input.share.call_bytes as u64)
            .args(input.args)
            .envs(input.env)
            .stdin(MemoryInputPipe::new(input.stdin))
            .stdout(input.stdout.clone())
            .stderr(input.stderr.clone());
        if let Some(directory) = input.directory {
            // WASI resolves paths below the directory. No path and no symbolic link leads out of
            // it.
            builder.preopened_dir(directory, "/", FsPerms::ReadWrite)?;
        }
        let mut wasi = builder.build_p1();
        wasi.ctx().table.set_max_capacity(OPEN_RESOURCES);
        Ok(Self {
            wasi,
            limiter: Limiter::new(Arc::clone(input.guard), input.share.reserved()),
            guard: Arc::clone(input.guard),
            open_lists: Vec::new(),
        })
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl types::Host for GuestState {}
