//! `random_get` in parts. wasmtime-wasi would first make all bytes in the host's memory. A guest
//! can request as many bytes as its own memory has.

use std::sync::Arc;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p0::wasi_unstable;
use wasmtime_wasi::p1::wasi_snapshot_preview1;
use wiggle::GuestMemory;

use super::guest_memory::{PART, SUCCESS, memory, offset, range};
use crate::runtime::guest_state::GuestState;

macro_rules! replace_random {
    ($linker:ident, $version:ident) => {
        $linker.func_wrap_async(
            stringify!($version),
            "random_get",
            |mut caller: Caller<'_, GuestState>, (pointer, length): (i32, i32)| {
                Box::new(async move {
                    let guest = memory(&mut caller)?;
                    let guard = Arc::clone(&caller.data().guard);
                    let start = offset(pointer);
                    let end = start.saturating_add(offset(length));
                    if range(guest.data(&caller), start, offset(length)).is_none() {
                        let message = "random_get: the buffer is outside of the memory";
                        return Err(wasmtime::Error::msg(message));
                    }
                    for part in (start..end).step_by(PART) {
                        let (bytes, state) = guest.data_and_store_mut(&mut caller);
                        let length = PART.min(end - part);
                        let errno = $version::random_get(
                            &mut state.wasi,
                            &mut GuestMemory::Unshared(bytes),
                            guest_number(part),
                            guest_number(length),
                        )?;
                        if errno != SUCCESS {
                            return Ok(errno);
                        }
                        if length == PART {
                            guard.pause().await?;
                        }
                    }
                    Ok(SUCCESS)
                })
            },
        )?
    };
}

/// Replaces `random_get` of wasmtime-wasi in the linker.
pub(super) fn replace(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    replace_random!(linker, wasi_snapshot_preview1);
    replace_random!(linker, wasi_unstable);
    Ok(())
}

/// An offset or a length inside a memory of 32 bits, as the guest passes it.
fn guest_number(number: usize) -> i32 {
    u32::try_from(number).unwrap_or(u32::MAX).cast_signed()
}
