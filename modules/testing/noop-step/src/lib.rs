//! The least that a component of the step world can do. Without the standard library, which would import files and streams.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

wit_bindgen::generate!({ path: "../../../wit", world: "step" });

struct Noop;

impl Guest for Noop {
    fn run(_: Invocation) -> Result<Outcome, String> {
        Ok(Outcome { message: None, result: None, parameters: Vec::new(), artifacts: Vec::new() })
    }
}

export!(Noop);

/// What the host calls to place values in this module's memory; with the standard library, wit-bindgen brings its own.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_length: usize, align: usize, new_length: usize) -> *mut u8 {
    // SAFETY: the canonical ABI gives sizes and alignments that it got from this function, or that are valid layouts.
    unsafe {
        let layout = core::alloc::Layout::from_size_align_unchecked(old_length.max(1), align);
        if old_length == 0 {
            alloc::alloc::alloc(core::alloc::Layout::from_size_align_unchecked(new_length.max(1), align))
        } else {
            alloc::alloc::realloc(old, layout, new_length)
        }
    }
}

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
