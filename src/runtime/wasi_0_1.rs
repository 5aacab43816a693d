//! Two functions of WASI 0.1 that the executor answers itself.
//!
//! `proc_exit` takes any exit code, as other systems do; the library takes those from 126 on for traps.
//!
//! `poll_oneoff` lets a sleeping guest be woken. With blocking file calls allowed on the thread, wasmtime-wasi also sleeps on the thread when a guest waits for one timer, and
//! no deadline ends that. So that one case is answered here, with a sleep that can be dropped; every other one is the library's.

use std::time::Duration;

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p0::wasi_unstable::{self, WasiUnstable};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self, WasiSnapshotPreview1};
use wiggle::GuestMemory;

use super::host::Host;

/// What one call may make the host allocate, in bytes.
const FUEL: usize = 1 << 20;
const EVENT_BYTES: usize = 32;
const CLOCK: u8 = 0;
const ABSOLUTE: u8 = 1;
/// `errno::fault`: a pointer that leads nowhere.
const FAULT: i32 = 21;

/// Where things are in a `subscription`, which grew smaller from one version to the next
/// (<https://github.com/WebAssembly/WASI/tree/wasi-0.1/phases>).
#[derive(Clone, Copy)]
struct Layout {
    timeout: usize,
    flags: usize,
}

const SNAPSHOT_0: Layout = Layout {
    timeout: 32,
    flags: 48,
};
const SNAPSHOT_1: Layout = Layout {
    timeout: 24,
    flags: 40,
};

/// The library makes the two versions from two descriptions, so that their functions share a shape and no type.
macro_rules! replace_poll {
    ($linker:ident, $version:ident, $trait:ident, $layout:expr) => {
        $linker.func_wrap_async(
            stringify!($version),
            "poll_oneoff",
            |mut caller: Caller<'_, Host>,
             (subscriptions, events, count, written): (i32, i32, i32, i32)| {
                Box::new(async move {
                    if let Some(errno) =
                        sleep(&mut caller, $layout, subscriptions, events, count, written).await?
                    {
                        return Ok(errno);
                    }
                    let (bytes, host) = memory(&mut caller)?.data_and_store_mut(&mut caller);
                    let mut memory = GuestMemory::Unshared(bytes);
                    $trait::set_hostcall_fuel(&mut host.wasi, FUEL);
                    $version::poll_oneoff(
                        &mut host.wasi,
                        &mut memory,
                        subscriptions,
                        events,
                        count,
                        written,
                    )
                    .await
                })
            },
        )?
    };
}

/// Puts ours in the place of the library's.
pub(super) fn replace(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for version in ["wasi_snapshot_preview1", "wasi_unstable"] {
        linker.func_wrap(version, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code).into())
        })?;
    }
    replace_poll!(
        linker,
        wasi_snapshot_preview1,
        WasiSnapshotPreview1,
        SNAPSHOT_1
    );
    replace_poll!(linker, wasi_unstable, WasiUnstable, SNAPSHOT_0);
    linker.allow_shadowing(false);
    Ok(())
}

fn memory(caller: &mut Caller<'_, Host>) -> wasmtime::Result<wasmtime::Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::Error::msg("the module exports no memory")),
    }
}

/// Sleeps, if that is all the call is about: one subscription, to a clock, for a time from now. Then it is never the library's, which would
/// sleep on this thread before it looked at any pointer. `None`: it is about something else.
async fn sleep(
    caller: &mut Caller<'_, Host>,
    layout: Layout,
    subscriptions: i32,
    events: i32,
    count: i32,
    written: i32,
) -> wasmtime::Result<Option<i32>> {
    if count != 1 {
        return Ok(None);
    }
    let memory = memory(caller)?;
    let at = |pointer: i32| usize::try_from(pointer.cast_unsigned()).unwrap_or(usize::MAX);
    let (subscriptions, events, written) = (at(subscriptions), at(events), at(written));
    let bytes = memory.data(&*caller);
    let in_bounds = |start: usize, length: usize| {
        start
            .checked_add(length)
            .is_some_and(|end| end <= bytes.len())
    };
    if !in_bounds(subscriptions, layout.flags + 2)
        || !in_bounds(events, EVENT_BYTES)
        || !in_bounds(written, 4)
    {
        return Ok(Some(FAULT));
    }
    let subscription = &bytes[subscriptions..subscriptions + layout.flags + 2];
    if subscription[8] != CLOCK || subscription[layout.flags] & ABSOLUTE != 0 {
        return Ok(None);
    }
    let timeout = subscription[layout.timeout..]
        .first_chunk()
        .copied()
        .map_or(0, u64::from_le_bytes);
    // An event: the subscription's own number, no error, and the kind "clock".
    let mut event = [0; EVENT_BYTES];
    event[..8].copy_from_slice(&subscription[..8]);
    tokio::time::sleep(Duration::from_nanos(timeout)).await;
    memory.write(&mut *caller, events, &event)?;
    memory.write(&mut *caller, written, &1u32.to_le_bytes())?;
    Ok(Some(0))
}
