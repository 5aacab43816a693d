//! Returns freed memory of the heap to the system.
//!
//! The allocator of glibc keeps most freed memory for later allocations. After a step that made the
//! host allocate much, the process would stay large. Other processes of the container, such as the
//! compile workers, would lack this memory. There are three kinds of freed memory (`mallopt(3)`,
//! `malloc_trim(3)`):
//!
//! - A large block has a mapping of its own, which glibc unmaps when the block is freed. But glibc
//!   then raises the size from which a block is large, up to 32 MiB. [`configure`] fixes this size.
//! - glibc returns the free end of a heap if the end is large enough. glibc also raises this size,
//!   up to 64 MiB for each heap. [`configure`] fixes it, too.
//! - glibc does not return free pages between used pages. [`return_freed_memory`] returns them.
#![allow(unsafe_code, reason = "a function of glibc has no safe wrapper")]

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Time between two checks. Freed memory must return to the system within ten seconds after a step.
const INTERVAL: Duration = Duration::from_secs(4);
/// Freed memory is returned if the process uses this much more than its smallest use so far, in
/// bytes.
const KEPT: u64 = 16 << 20;

/// Size from which a block has a mapping of its own, in bytes.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 4 << 20;
/// Free size from which the end of a heap is returned, in bytes.
#[cfg(target_env = "gnu")]
const LARGE_END: libc::c_int = 1 << 20;

/// Configures the allocator. Call this before the first thread is started.
#[cfg(target_env = "gnu")]
pub fn configure() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, LARGE_BLOCK),
        (libc::M_TRIM_THRESHOLD, LARGE_END),
    ] {
        // SAFETY: the function takes no pointer, and sets one number under a lock. It refuses
        // wrong values, and then nothing changes.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Only glibc has these settings.
#[cfg(not(target_env = "gnu"))]
pub fn configure() {}

/// Returns freed memory regularly, until the token is cancelled.
pub(super) async fn return_freed_memory(shutdown: CancellationToken) {
    let work = async {
        let mut least = u64::MAX;
        loop {
            tokio::time::sleep(INTERVAL).await;
            if anonymous_memory().is_some_and(|memory| memory > least.saturating_add(KEPT)) {
                let _ = tokio::task::spawn_blocking(trim).await;
            }
            least = least.min(anonymous_memory().unwrap_or(u64::MAX));
        }
    };
    shutdown.run_until_cancelled(work).await;
}

/// Resident memory of this process without the pages of files, in bytes. `None` if the system does
/// not say (`proc_pid_statm(5)`).
fn anonymous_memory() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages.split_whitespace().skip(1);
    let mut next = || pages.next()?.parse::<u64>().ok();
    let resident = next()?;
    let of_files = next()?;
    let page_bytes = rustix::param::page_size() as u64;
    Some(resident.saturating_sub(of_files) * page_bytes)
}

/// Returns all free pages of all heaps to the system (`malloc_trim(3)`).
#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: the function takes no pointer. It locks each heap while it works on the heap.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
