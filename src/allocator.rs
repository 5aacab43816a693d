//! The allocator of the program.
//!
//! - The executor uses jemalloc. With jemalloc, a short step needs about 11 % less processor time
//!   than with glibc. jemalloc also returns freed memory to the system (`app/heap.rs`).
//! - A worker uses the allocator of the system, because a worker has a memory limit. With jemalloc,
//!   the compiler needs about 1.5 times as much memory for a module of 1 MB.
#![allow(
    unsafe_code,
    reason = "`GlobalAlloc` and `export_name` need unsafe code"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_char;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::read;
use tikv_jemallocator::Jemalloc;
use wasm_workflow_executor::http_templates::EXPRESSION_WORKER;
use wasm_workflow_executor::runtime::COMPILE_WORKER;

/// The settings of jemalloc (`malloc_conf` in `jemalloc(3)`):
///
/// - `retain:false`: jemalloc unmaps unused address space at once.
/// - `dirty_decay_ms:2000`: jemalloc returns other unused pages within about two seconds.
/// - `tcache_max:8192`: the cache of a thread has only blocks up to 8 KiB. A thread that runs no
///   step keeps its cache.
///
/// jemalloc declares this variable as one pointer to a string that ends with NUL.
// SAFETY: the pointer is of a static string. The name replaces a weak symbol of the same type.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub(crate) static SETTINGS: Option<&'static c_char> =
    Some(unsafe { &*c"retain:false,dirty_decay_ms:2000,tcache_max:8192".as_ptr() });

/// Chooses the allocator at the first allocation. The choice does not change after that.
#[derive(Debug)]
pub(crate) struct Allocator;

const UNKNOWN: u8 = 0;
const WORKER: u8 = 1;
const EXECUTOR: u8 = 2;

static ROLE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether this process is a worker. Each call gives the same answer, in all threads.
#[inline]
fn is_worker() -> bool {
    match ROLE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let is_worker = has_command_of_worker();
            let role = if is_worker { WORKER } else { EXECUTOR };
            ROLE.store(role, Ordering::Relaxed);
            is_worker
        }
        role => role == WORKER,
    }
}

/// Whether the first argument of the process is the command of a worker. This function allocates
/// nothing.
#[cold]
fn has_command_of_worker() -> bool {
    let mut line = [0; 256];
    let file = open(c"/proc/self/cmdline", OFlags::RDONLY, Mode::empty());
    let length = file.and_then(|file| read(file, &mut line));
    let length = length.unwrap_or_default();
    is_command_of_worker(&line[..length])
}

/// `line` has the arguments, the program's name first. Each ends with NUL
/// (`proc_pid_cmdline(5)`).
fn is_command_of_worker(line: &[u8]) -> bool {
    let mut arguments = line.split(|byte| *byte == 0);
    let command = arguments.nth(1);
    [COMPILE_WORKER, EXPRESSION_WORKER]
        .iter()
        .any(|worker| command == Some(worker.as_bytes()))
}

// The methods are not inlined: two calls at each allocation of the program would add 6 MB to it.
//
// SAFETY: each method calls the method of the same name, with the same arguments. The allocator is
// the same for all calls.
unsafe impl GlobalAlloc for Allocator {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_worker() {
            true => unsafe { System.alloc(layout) },
            false => unsafe { Jemalloc.alloc(layout) },
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_worker() {
            true => unsafe { System.alloc_zeroed(layout) },
            false => unsafe { Jemalloc.alloc_zeroed(layout) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match is_worker() {
            true => unsafe { System.dealloc(block, layout) },
            false => unsafe { Jemalloc.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match is_worker() {
            true => unsafe { System.realloc(block, layout, size) },
            false => unsafe { Jemalloc.realloc(block, layout, size) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_argument_decides_whether_a_process_is_a_worker() {
        for worker in ["compile-worker", "expression-worker"] {
            let line = format!("/proc/self/exe\0{worker}\0");
            assert!(is_command_of_worker(line.as_bytes()), "{worker}");
            let line = format!("executor\0run\0{worker}\0");
            assert!(!is_command_of_worker(line.as_bytes()), "{worker}");
        }
        assert!(!is_command_of_worker(b"compile-worker\0"));
        assert!(!is_command_of_worker(b""));
    }
}
