//! The smallest component of the step world: it does nothing. It does not use the standard library,
//! which would import files and streams.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

wit_bindgen::generate!({ path: "../../../wit", world: "step" });

struct Noop;

impl Guest for Noop {
    fn run(_: Invocation) -> Result<Outcome, String> {
        Ok(Outcome {
            message: None,
            result: None,
            parameters: Vec::new(),
            artifacts: Vec::new(),
        })
    }
}

export!(Noop);

/// Allocates memory of this module for values from the host. With the standard library, wit-bindgen
/// supplies this function.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_length: usize,
    align: usize,
    new_length: usize,
) -> *mut u8 {
    // SAFETY: the host passes the pointer, size and alignment of an earlier call, or a valid layout
    // (canonical ABI).
    let new = unsafe {
        let layout = Layout::from_size_align_unchecked(old_length.max(1), align);
        if old_length == 0 {
            alloc::alloc::alloc(Layout::from_size_align_unchecked(new_length.max(1), align))
        } else {
            alloc::alloc::realloc(old, layout, new_length.max(1))
        }
    };
    // The host does not check for a null pointer.
    if new.is_null() {
        core::arch::wasm32::unreachable()
    } else {
        new
    }
}

/// A bump allocator. It never frees memory, because an instance runs one step and is then dropped
/// with all of its memory.
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

/// Size of the arena, which is part of the initial memory. Growing the memory changes page
/// protections, and that takes longer than this module runs.
const ARENA_BYTES: usize = 256 << 10;

#[global_allocator]
static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the module has only one thread.
unsafe impl Sync for Arena {}

// SAFETY: each block starts at or after the end of the block before, and ends within the arena.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.0.get().cast::<u8>();
        let start =
            (base as usize + USED.load(Relaxed)).next_multiple_of(layout.align()) - base as usize;
        match start.checked_add(layout.size()) {
            Some(end) if end <= ARENA_BYTES => {
                USED.store(end, Relaxed);
                base.wrapping_add(start)
            }
            _ => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
