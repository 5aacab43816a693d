//! Returns freed memory of the heap to the system.
//!
//! After a step that made the host allocate much, the process must not stay large: other processes
//! of the container, such as the compile workers, would lack this memory. A thread of jemalloc
//! returns pages that are unused for two seconds (`background_thread` and `dirty_decay_ms` in
//! `jemalloc(3)`). The file `allocator.rs` sets the time.

/// Starts the thread that returns freed memory. Only `serve` needs it: other commands end soon.
pub(super) fn return_freed_memory() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(
            %error,
            "freed memory is returned to the system late: the allocator cannot start its thread"
        );
    }
}
