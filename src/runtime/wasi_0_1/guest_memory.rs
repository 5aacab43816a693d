//! The memory of a core module, as functions of WASI 0.1 use it.

use wasmtime::{Caller, Extern};

use crate::runtime::guest_state::GuestState;

/// `errno::success`.
pub(super) const SUCCESS: i32 = 0;
/// `errno::fault`: a pointer outside the guest's memory.
pub(super) const FAULT: i32 = 21;
/// Size of a part of a large buffer, in bytes. A step can end after each part.
pub(super) const PART: usize = 256 << 10;

pub(super) fn memory(caller: &mut Caller<'_, GuestState>) -> wasmtime::Result<wasmtime::Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::Error::msg("the module exports no memory")),
    }
}

/// A pointer or a size of the guest as a number. Both are unsigned.
pub(super) fn offset(pointer: i32) -> usize {
    usize::try_from(pointer.cast_unsigned()).unwrap_or(usize::MAX)
}

/// The bytes at an offset. `None` if they are not all inside the memory.
pub(super) fn range(bytes: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(length)?)
}

/// The `u32` at an offset. `None` if it is not inside the memory.
pub(super) fn number(bytes: &[u8], start: usize) -> Option<usize> {
    let number = range(bytes, start, size_of::<u32>())?
        .first_chunk()
        .copied()?;
    usize::try_from(u32::from_le_bytes(number)).ok()
}
