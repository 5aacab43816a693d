//! Bodies for [`components::step`](super::components::step) that return too much.

/// Returns 120 parameters of 1 MiB. All values are the same bytes in the guest's memory.
pub const OVERLAPPING_PARAMETERS: &str = "
    (i32.store (i32.const 44) (i32.const 1024)) (i32.store (i32.const 48) (i32.const 120))
    (loop $next
        (i32.store (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 16))) (i32.const 65536))
        (i32.store (i32.add (i32.const 1028) (i32.mul (local.get $i) (i32.const 16))) (i32.const 1))
        (i32.store (i32.add (i32.const 1032) (i32.mul (local.get $i) (i32.const 16))) (i32.const 65536))
        (i32.store (i32.add (i32.const 1036) (i32.mul (local.get $i) (i32.const 16))) (i32.const 1048576))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 120))))";

/// Returns a list of very many empty parameters.
pub const EMPTY_PARAMETERS: &str = "
    (memory.fill (i32.const 65536) (i32.const 0) (i32.const 16000000))
    (i32.store (i32.const 44) (i32.const 65536)) (i32.store (i32.const 48) (i32.const 1000000))";

/// Returns one result of 28 MiB.
pub const LONG_RESULT: &str = "
    (i32.store (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const 65536))
    (i32.store (i32.const 40) (i32.const 29360128))";

/// Returns one error message of 28 MiB.
pub const LONG_ERROR: &str = "
    (i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 65536))
    (i32.store (i32.const 24) (i32.const 29360128))";
