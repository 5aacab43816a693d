//! WASI 0.1 commands that call the host in a straight line.

/// A WASI 0.1 command with 200 MiB of memory. If it gets an argument, it runs `before`, and then
/// `repeated` as often as `calls`, without a loop.
pub fn straight_line(imports: &str, before: &str, repeated: &str, calls: usize) -> String {
    let repeated = repeated.repeat(calls);
    format!(
        r#"(module {imports}
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
            (memory (export "memory") 3200)
            (data (i32.const 0) "tmp/f")
            ;; A buffer of 100 MiB at 65536.
            (data (i32.const 16) "\00\00\01\00\00\00\40\06")
            (func $long {repeated})
            (func (export "_start")
                (drop (call $sizes (i32.const 64) (i32.const 68)))
                (if (i32.gt_u (i32.load (i32.const 64)) (i32.const 1))
                    (then {before} (call $long)))))"#
    )
}

/// Opens `/tmp/f` for reading and writing. Its descriptor is at the address 32.
pub const OPEN: &str = "(drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5)
    (i32.const 1) (i64.const 0x1fffffff) (i64.const 0) (i32.const 0) (i32.const 32)))";
/// The import of `path_open` for [`OPEN`].
pub const IMPORT_OPEN: &str = r#"(import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;

/// The import of a function of WASI 0.1, which is `$call` in the module.
pub fn import(name: &str, parameters: &str) -> String {
    format!(
        r#"(import "wasi_snapshot_preview1" "{name}" (func $call (param {parameters}) (result i32)))"#
    )
}
