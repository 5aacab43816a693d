//! Reads and writes of large buffers, in parts.
//!
//! wasmtime-wasi transfers the first buffer that is not empty, in one system call. During this
//! call, no limit can end the step, and the step's disk usage is not measured. So the functions
//! here pass a large buffer on in parts of 256 KiB, each with its own call of wasmtime-wasi. The
//! guest sees one transfer, as before.
//!
//! Each part has a memory of its own, a *window*, with one vector and its buffer. So the guest's
//! own vectors do not change, even if a buffer overlaps them.

use std::ops::Range;
use std::sync::Arc;

use wasmtime::{AsContextMut, Caller, Linker};
use wasmtime_wasi::p0::wasi_unstable::{self, WasiUnstable};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self, WasiSnapshotPreview1};
use wiggle::GuestMemory;

use super::guest_memory::{PART, SUCCESS, memory, number, offset, range};
use crate::runtime::guest_state::GuestState;

/// Size of a vector: pointer and length of a buffer.
const VECTOR_BYTES: usize = 8;
/// Offset in a window at which wasmtime-wasi writes the number of transferred bytes.
const WRITTEN: i32 = 8;
/// Offset of the buffer in a window.
const BUFFER: usize = 16;

/// The direction of a transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the guest's memory to a file or stream.
    Out,
    /// From a file or stream to the guest's memory.
    In,
}

/// The vectors of one call, as the guest passes them.
#[derive(Clone, Copy)]
struct Vectors {
    pointer: i32,
    count: i32,
    /// Pointer to the number of transferred bytes.
    done: i32,
}

/// A transfer in parts.
struct Transfer {
    direction: Direction,
    /// The rest of the buffer in the guest's memory.
    rest: Range<usize>,
    /// Number of bytes that were transferred.
    moved: usize,
    window: Vec<u8>,
}

impl Transfer {
    /// A transfer of the first buffer that is not empty. `None` if wasmtime-wasi can handle the
    /// call at once: the buffer is small, or a pointer is wrong.
    ///
    /// `fuel` is the largest number of bytes that wasmtime-wasi accepts.
    fn of_large_buffer(
        direction: Direction,
        bytes: &[u8],
        vectors: Vectors,
        fuel: usize,
    ) -> Option<Self> {
        let count = offset(vectors.count);
        if count > fuel / VECTOR_BYTES {
            return None;
        }
        range(bytes, offset(vectors.done), size_of::<u32>())?;
        for index in 0..count {
            let vector = offset(vectors.pointer).checked_add(index * VECTOR_BYTES)?;
            let buffer = number(bytes, vector)?;
            let length = number(bytes, vector + VECTOR_BYTES / 2)?;
            if length == 0 {
                continue;
            }
            range(bytes, buffer, length)?;
            return (length > PART).then(|| Self {
                direction,
                rest: buffer..buffer + length,
                moved: 0,
                window: vec![0; BUFFER + PART],
            });
        }
        None
    }

    /// The next part, as a memory for wasmtime-wasi.
    fn next_window(&mut self, bytes: &[u8]) -> GuestMemory<'_> {
        let length = PART.min(self.rest.len());
        let vector = [BUFFER, length].map(|number| u32::try_from(number).unwrap_or(0));
        let vector = vector.map(u32::to_le_bytes);
        self.window[..VECTOR_BYTES].copy_from_slice(vector.as_flattened());
        if self.direction == Direction::Out {
            let part = &bytes[self.rest.start..self.rest.start + length];
            self.window[BUFFER..BUFFER + length].copy_from_slice(part);
        }
        GuestMemory::Unshared(&mut self.window)
    }

    /// Takes the part that was transferred. Returns whether there is another part.
    fn advance(&mut self, bytes: &mut [u8]) -> bool {
        let length = PART.min(self.rest.len());
        let moved = number(&self.window, offset(WRITTEN))
            .unwrap_or(0)
            .min(length);
        if self.direction == Direction::In {
            let part = self.rest.start..self.rest.start + moved;
            bytes[part].copy_from_slice(&self.window[BUFFER..BUFFER + moved]);
        }
        self.rest.start += moved;
        self.moved += moved;
        moved == length && !self.rest.is_empty()
    }

    /// The bytes of the number that the guest gets.
    fn moved_bytes(&self) -> [u8; 4] {
        u32::try_from(self.moved).unwrap_or(u32::MAX).to_le_bytes()
    }
}

/// Defines one function in one version of WASI. `$offset` names the parameter of the functions that
/// read or write at an offset.
macro_rules! replace_transfer {
    ($linker:ident, $version:ident, $trait:ident, $name:ident, $direction:ident $(, $offset:ident)?) => {
        $linker.func_wrap_async(
            stringify!($version),
            stringify!($name),
            |mut caller: Caller<'_, GuestState>,
             (fd, pointer, count, $($offset,)? done): replace_transfer!(@parameters $($offset)?)| {
                Box::new(async move {
                    let guest = memory(&mut caller)?;
                    let fuel = caller.as_context_mut().hostcall_fuel();
                    let vectors = Vectors { pointer, count, done };
                    let (bytes, state) = guest.data_and_store_mut(&mut caller);
                    $trait::set_hostcall_fuel(&mut state.wasi, fuel);
                    let large = Transfer::of_large_buffer(Direction::$direction, bytes, vectors, fuel);
                    let Some(mut transfer) = large else {
                        let mut memory = GuestMemory::Unshared(bytes);
                        return $version::$name(
                            &mut state.wasi, &mut memory, fd, pointer, count, $($offset,)? done,
                        )
                        .await;
                    };
                    let guard = Arc::clone(&state.guard);
                    loop {
                        let (bytes, state) = guest.data_and_store_mut(&mut caller);
                        $(let $offset = $offset.wrapping_add_unsigned(transfer.moved as u64);)?
                        $trait::set_hostcall_fuel(&mut state.wasi, fuel);
                        let mut window = transfer.next_window(bytes);
                        let errno = $version::$name(
                            &mut state.wasi, &mut window, fd, 0, 1, $($offset,)? WRITTEN,
                        )
                        .await?;
                        if errno != SUCCESS {
                            // As in POSIX, the next call reports an error that occurs after the
                            // first part.
                            if transfer.moved == 0 {
                                return Ok(errno);
                            }
                            break;
                        }
                        let has_more = transfer.advance(guest.data_mut(&mut caller));
                        guard.pause().await?;
                        if !has_more {
                            break;
                        }
                    }
                    guest.write(&mut caller, offset(done), &transfer.moved_bytes())?;
                    Ok(SUCCESS)
                })
            },
        )?
    };
    (@parameters) => { (i32, i32, i32, i32) };
    (@parameters $offset:ident) => { (i32, i32, i32, i64, i32) };
}

/// Replaces the functions of wasmtime-wasi in the linker.
pub(super) fn replace(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    macro_rules! both_versions {
        ($($arguments:tt)*) => {
            replace_transfer!(linker, wasi_snapshot_preview1, WasiSnapshotPreview1, $($arguments)*);
            replace_transfer!(linker, wasi_unstable, WasiUnstable, $($arguments)*);
        };
    }
    both_versions!(fd_read, In);
    both_versions!(fd_pread, In, at);
    both_versions!(fd_write, Out);
    both_versions!(fd_pwrite, Out, at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(direction: Direction, bytes: &[u8], count: i32) -> Option<Transfer> {
        let vectors = Vectors {
            pointer: 0,
            count,
            done: 16,
        };
        Transfer::of_large_buffer(direction, bytes, vectors, 1 << 20)
    }

    /// A memory with two vectors. The first one is empty, the second one has a buffer.
    fn guest(start: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![7; 2 * PART];
        let vectors = [0, 0, start, length].map(|number| u32::try_from(number).unwrap());
        bytes[..16].copy_from_slice(vectors.map(u32::to_le_bytes).as_flattened());
        bytes
    }

    #[test]
    fn only_a_large_buffer_inside_the_memory_is_transferred_in_parts() {
        let is_large = |start, length, count| large(Direction::Out, &guest(start, length), count);
        assert!(is_large(32, PART + 1, 2).is_some());
        for (start, length, count) in [
            (32, PART, 2),
            (32, PART + 1, 1),
            (32, 2 * PART, 2),
            (32, PART + 1, -1),
            (usize::try_from(u32::MAX).unwrap(), PART + 1, 2),
        ] {
            assert!(is_large(start, length, count).is_none(), "{start} {length}");
        }
    }

    #[test]
    fn a_buffer_over_its_own_vectors_is_written_as_it_is() {
        let bytes = guest(0, PART + 8);
        let mut transfer = large(Direction::Out, &bytes, 2).unwrap();
        transfer.next_window(&bytes);
        assert_eq!(transfer.window[BUFFER..], bytes[..PART]);
    }

    #[test]
    fn a_short_part_ends_the_transfer() {
        let mut bytes = guest(32, PART + 8);
        let mut transfer = large(Direction::In, &bytes, 2).unwrap();
        transfer.next_window(&bytes);
        transfer.window[8..12].copy_from_slice(&5u32.to_le_bytes());
        transfer.window[BUFFER..BUFFER + 5].copy_from_slice(b"hello");
        assert!(!transfer.advance(&mut bytes));
        assert_eq!(&bytes[32..38], b"hello\x07");
        assert_eq!(transfer.moved_bytes(), [5, 0, 0, 0]);
    }
}
