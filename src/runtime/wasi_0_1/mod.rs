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

mod poll;
mod random;
mod transfer;

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::I32Exit;

use super::guest_state::GuestState;

/// `errno::success`.
const SUCCESS: i32 = 0;
/// `errno::fault`: a pointer outside the guest's memory.
const FAULT: i32 = 21;
/// Size of a part of a large buffer, in bytes. A step can end after each part.
const PART: usize = 256 << 10;

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

fn memory(caller: &mut Caller<'_, GuestState>) -> wasmtime::Result<wasmtime::Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::Error::msg("the module exports no memory")),
    }
}

/// A pointer or a size of the guest as a number. Both are unsigned.
fn offset(pointer: i32) -> usize {
    usize::try_from(pointer.cast_unsigned()).unwrap_or(usize::MAX)
}

/// The bytes at an offset. `None` if they are not all inside the memory.
fn range(bytes: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(length)?)
}

/// The `u32` at an offset. `None` if it is not inside the memory.
fn number(bytes: &[u8], start: usize) -> Option<usize> {
    let number = range(bytes, start, size_of::<u32>())?
        .first_chunk()
        .copied()?;
    usize::try_from(u32::from_le_bytes(number)).ok()
}
