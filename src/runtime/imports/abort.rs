//! `env.abort` of AssemblyScript: ends the program with a message and its place in the source
//! (<https://www.assemblyscript.org/concepts.html#special-imports>).

use wasmtime::{Caller, Extern, Val};

use crate::runtime::guest_state::GuestState;

/// Longest message or file name that is read, in UTF-16 code units.
const MAX_UNITS: usize = 200;
/// Size of the header field with a string's length in bytes, directly before the string.
const LENGTH_BYTES: usize = 4;

/// Whether an import is `env.abort`. Emscripten imports it, too, without parameters.
pub(super) fn is_abort(module: &str, name: &str) -> bool {
    module == "env" && name == "abort"
}

/// The error for a call of `abort`. AssemblyScript passes the message, the name of the file, the
/// line and the column.
pub(super) fn error(mut caller: Caller<'_, GuestState>, arguments: &[Val]) -> wasmtime::Error {
    let mut text = "the program aborted".to_owned();
    if let [
        Val::I32(message),
        Val::I32(file),
        Val::I32(line),
        Val::I32(column),
    ] = arguments
        && let Some(Extern::Memory(memory)) = caller.get_export("memory")
    {
        let memory = memory.data(&caller);
        if let Some(message) = string(memory, *message) {
            text = format!("{text}: {message}");
        }
        if let Some(file) = string(memory, *file) {
            text = format!("{text}, in {file}:{line}:{column}");
        }
    }
    wasmtime::Error::msg(text)
}

/// The beginning of a string of AssemblyScript: UTF-16, with its length before it. `None` for a
/// null pointer and for a string outside the memory.
fn string(memory: &[u8], pointer: i32) -> Option<String> {
    let start = usize::try_from(pointer.cast_unsigned()).ok()?;
    let length = memory.get(start.checked_sub(LENGTH_BYTES)?..start)?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let length = usize::try_from(length).ok()?.min(2 * MAX_UNITS);
    let (units, _) = memory
        .get(start..start.checked_add(length)?)?
        .as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let text = String::from_utf16_lossy(&units);
    Some(text.replace(char::is_control, " ")).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_only_inside_the_memory() {
        let mut memory = vec![0; 32];
        memory[4..8].copy_from_slice(&4u32.to_le_bytes());
        memory[8..12].copy_from_slice(&[b'h', 0, b'i', 0]);
        assert_eq!(string(&memory, 8).as_deref(), Some("hi"));
        memory[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        for pointer in [0, 3, 20, 32, 33, -1, i32::MIN] {
            assert_eq!(string(&memory, pointer), None, "{pointer}");
        }
    }
}
