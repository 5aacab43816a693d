//! Functions of WASI 0.1 that replace those of wasmtime-wasi.
//!
//! | file | functions | why |
//! |---|---|---|
//! | here | `proc_exit` | accepts every exit code, as operating systems do; wasmtime-wasi traps on codes from 126 |
//! | `poll` | `poll_oneoff` | a limit must end a sleep |
//! | `transfer` | `fd_read`, `fd_pread`, `fd_write`, `fd_pwrite` | a limit must end the transfer of a large buffer |
//! | `random` | `random_get` | a limit must end the filling of a large buffer |
//!
//! Each function exists in two versions: `wasi_snapshot_preview1` and the older `wasi_unstable`.
//! wasmtime-wasi generates the two versions from two descriptions, so their functions have the same
//! parameters, but different types. Macros define both.

mod guest_memory;
mod poll;
mod random;
mod transfer;

use wasmtime::Linker;
use wasmtime_wasi::I32Exit;

use super::guest_state::GuestState;

/// Replaces the functions of wasmtime-wasi in the linker.
pub(super) fn replace(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for version in ["wasi_snapshot_preview1", "wasi_unstable"] {
        linker.func_wrap(version, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code).into())
        })?;
    }
    poll::replace(linker)?;
    random::replace(linker)?;
    transfer::replace(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
