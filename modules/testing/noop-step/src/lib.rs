//! The least that a component of the step world can do. Without the standard library, which would import files and streams.
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

/// What the host calls to place values in this module's memory; with the standard library, wit-bindgen brings its own.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_length: usize,
    align: usize,
    new_length: usize,
) -> *mut u8 {
    // SAFETY: the canonical ABI gives sizes and alignments that it got from this function, or that are valid layouts.
    let new = unsafe {
        let layout = Layout::from_size_align_unchecked(old_length.max(1), align);
        if old_length == 0 {
            alloc::alloc::alloc(Layout::from_size_align_unchecked(new_length.max(1), align))
        } else {
            alloc::alloc::realloc(old, layout, new_length.max(1))
        }
    };
    // The host would write to where null points.
    if new.is_null() {
        core::arch::wasm32::unreachable()
    } else {
        new
    }
}

/// An instance serves one step, and its memory is given back whole: nothing needs to be freed before.
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

/// Room that is there from the start. Growing memory changes page protections, which costs more than all of this module.
const ARENA_BYTES: usize = 256 << 10;

#[global_allocator]
static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: there is one thread.
unsafe impl Sync for Arena {}

// SAFETY: every block begins where the ones before it end, and lies in the arena.
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
