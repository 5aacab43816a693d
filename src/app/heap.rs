//! Returns freed memory of the heap to the system.
//!
//! After a step that made the host allocate much, the process must not stay large: other processes
//! of the container, such as the compile workers, would lack this memory. The background threads of
//! jemalloc return unused pages within about two seconds (`background_thread` and `dirty_decay_ms`
//! in `jemalloc(3)`). `SETTINGS` in `allocator.rs` has this time.

/// Enables the background threads of jemalloc, which return freed memory. Other commands than
/// `serve` end soon.
///
/// With musl, jemalloc has no such threads. The executor then returns freed memory only when it
/// allocates or frees memory again.
pub fn return_freed_memory() {
    if cfg!(target_env = "musl") {
        return;
    }
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(
            %error,
            "the allocator cannot start its background threads; the executor returns freed memory to \
             the system only when it allocates or frees memory again"
        );
    }
}
