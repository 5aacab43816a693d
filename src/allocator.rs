//! The allocator of the program.
//!
//! - The executor uses jemalloc. With jemalloc, a short step takes a tenth less processor time than
//!   with glibc, and freed memory returns to the system (`app/heap.rs`).
//! - A compile worker uses the allocator of the system. A worker ends soon, and has a memory limit.
//!   With jemalloc, the compiler would need up to half more memory.
#![allow(
    unsafe_code,
    reason = "the trait and the name of jemalloc's settings are unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

use tikv_jemallocator::Jemalloc;

/// The settings of jemalloc (`malloc_conf` in `jemalloc(3)`):
///
/// - Unused address space is returned, too.
/// - Unused pages are returned after two seconds.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub(crate) static SETTINGS: &CStr = c"retain:false,dirty_decay_ms:2000";

/// The executor starts its workers with this path (`runtime/compiler.rs`).
const WORKER_PATH: &CStr = c"/proc/self/exe";

/// Chooses the allocator at the first allocation. The choice does not change after that.
#[derive(Debug)]
pub(crate) struct Allocator;

const UNKNOWN: u8 = 0;
const WORKER: u8 = 1;
const EXECUTOR: u8 = 2;

static ROLE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether this process is a compile worker. Each call gives the same answer, in all threads.
#[inline]
fn is_worker() -> bool {
    match ROLE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let is_worker = has_path_of_worker();
            let role = if is_worker { WORKER } else { EXECUTOR };
            ROLE.store(role, Ordering::Relaxed);
            is_worker
        }
        role => role == WORKER,
    }
}

/// Whether the process was started with the path of a worker.
#[cold]
fn has_path_of_worker() -> bool {
    // SAFETY: the function only reads the vector that the kernel gave to this process.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    // SAFETY: the kernel stores the path as a string that ends with zero, and that stays in memory
    // (getauxval(3)).
    !path.is_null() && unsafe { CStr::from_ptr(path) } == WORKER_PATH
}

// SAFETY: each method calls the method of one allocator, with the same arguments. All calls use the
// same allocator.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_worker() {
            true => unsafe { System.alloc(layout) },
            false => unsafe { Jemalloc.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_worker() {
            true => unsafe { System.alloc_zeroed(layout) },
            false => unsafe { Jemalloc.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match is_worker() {
            true => unsafe { System.dealloc(block, layout) },
            false => unsafe { Jemalloc.dealloc(block, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match is_worker() {
            true => unsafe { System.realloc(block, layout, size) },
            false => unsafe { Jemalloc.realloc(block, layout, size) },
        }
    }
}
