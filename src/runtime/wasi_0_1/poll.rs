//! **`poll_oneoff`** must be cancellable while the guest sleeps. wasmtime-wasi handles one case
//! with `std::thread::sleep`: a single subscription to a clock with a relative timeout, if
//! `allow_blocking_current_thread` is set. `guest_state` sets it, so that file calls block their
//! thread. But a deadline or a cancellation cannot end `std::thread::sleep`. So the function here
//! handles this case with a sleep of tokio. `run` can drop that sleep. All other cases are passed
//! on to wasmtime-wasi.
//!
//! The versions of WASI 0.1 differ in the layout of a subscription.

use std::time::Duration;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p0::wasi_unstable::{self, WasiUnstable};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self, WasiSnapshotPreview1};
use wiggle::GuestMemory;

use super::guest_memory::{FAULT, SUCCESS, memory, offset, range};
use crate::runtime::guest_state::GuestState;

/// Maximum that one call of wasmtime-wasi may allocate for the guest, in bytes.
const FUEL: usize = 1 << 20;
/// Size of an `event`.
const EVENT_BYTES: usize = 32;
/// Size of a `userdata`, the first field of a `subscription` and of an `event`.
const USERDATA_BYTES: usize = 8;
/// Offset of the tag of a `subscription`, after its `userdata`.
const TAG: usize = USERDATA_BYTES;
/// `eventtype::clock`, as the tag of a `subscription`.
const CLOCK: u8 = 0;
/// `subclockflags::subscription_clock_abstime`.
const ABSOLUTE: u8 = 1;

/// Offsets in a `subscription` to a clock, in bytes
/// (<https://github.com/WebAssembly/WASI/tree/wasi-0.1/phases>).
#[derive(Clone, Copy)]
struct Layout {
    timeout: usize,
    flags: usize,
}

impl Layout {
    /// Length of the part of a subscription that is read. The flags are the last field, of two
    /// bytes.
    fn length(self) -> usize {
        self.flags + 2
    }
}

/// Layout in `wasi_unstable`.
const SNAPSHOT_0: Layout = Layout {
    timeout: 32,
    flags: 48,
};
/// Layout in `wasi_snapshot_preview1`.
const SNAPSHOT_1: Layout = Layout {
    timeout: 24,
    flags: 40,
};

/// Arguments of `poll_oneoff`, as the guest passes them.
#[derive(Clone, Copy)]
struct PollArguments {
    /// Pointer to `count` subscriptions.
    subscriptions: i32,
    /// Pointer to room for `count` events.
    events: i32,
    count: i32,
    /// Pointer to the number of events that were written.
    written: i32,
}

/// Defines `poll_oneoff` in one version of WASI. wasmtime-wasi generates the two versions from two
/// descriptions, so their functions have equal shapes and different types.
macro_rules! replace_poll {
    ($linker:ident, $version:ident, $trait:ident, $layout:expr) => {
        $linker.func_wrap_async(
            stringify!($version),
            "poll_oneoff",
            |mut caller: Caller<'_, GuestState>,
             (subscriptions, events, count, written): (i32, i32, i32, i32)| {
                Box::new(async move {
                    let arguments = PollArguments {
                        subscriptions,
                        events,
                        count,
                        written,
                    };
                    if let Some(errno) = sleep(&mut caller, $layout, arguments).await? {
                        return Ok(errno);
                    }
                    let (bytes, state) = memory(&mut caller)?.data_and_store_mut(&mut caller);
                    let mut memory = GuestMemory::Unshared(bytes);
                    $trait::set_hostcall_fuel(&mut state.wasi, FUEL);
                    $version::poll_oneoff(
                        &mut state.wasi,
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

/// Replaces `poll_oneoff` of wasmtime-wasi in the linker.
pub(super) fn replace(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    replace_poll!(
        linker,
        wasi_snapshot_preview1,
        WasiSnapshotPreview1,
        SNAPSHOT_1
    );
    replace_poll!(linker, wasi_unstable, WasiUnstable, SNAPSHOT_0);
    Ok(())
}

/// Sleeps, if the call has one subscription, to a clock, with a relative timeout. Returns the
/// `errno` of the call. Returns `None` for all other calls, without an effect.
///
/// The pointers are checked before the sleep. wasmtime-wasi would block the thread before it writes
/// the event, so a call with a bad pointer must not be passed on to it either.
async fn sleep(
    caller: &mut Caller<'_, GuestState>,
    layout: Layout,
    arguments: PollArguments,
) -> wasmtime::Result<Option<i32>> {
    if arguments.count != 1 {
        return Ok(None);
    }
    let memory = memory(caller)?;
    let subscription = offset(arguments.subscriptions);
    let event = offset(arguments.events);
    let written = offset(arguments.written);
    let bytes = memory.data(&*caller);
    if range(bytes, event, EVENT_BYTES).is_none()
        || range(bytes, written, size_of::<u32>()).is_none()
    {
        return Ok(Some(FAULT));
    }
    let Some(subscription) = range(bytes, subscription, layout.length()) else {
        return Ok(Some(FAULT));
    };
    if subscription[TAG] != CLOCK || subscription[layout.flags] & ABSOLUTE != 0 {
        return Ok(None);
    }
    let timeout = subscription[layout.timeout..]
        .first_chunk()
        .copied()
        .map_or(0, u64::from_le_bytes);
    // The zeros after `userdata` are the error "success" and the type "clock".
    let mut clock_event = [0; EVENT_BYTES];
    clock_event[..USERDATA_BYTES].copy_from_slice(&subscription[..USERDATA_BYTES]);
    tokio::time::sleep(Duration::from_nanos(timeout)).await;
    memory.write(&mut *caller, event, &clock_event)?;
    memory.write(&mut *caller, written, &1u32.to_le_bytes())?;
    Ok(Some(SUCCESS))
}
