//! Modules as toolchains make them: entry points, imports that the executor does not offer, and
//! modules that it cannot run.

mod entry_points;
mod imports;
mod refused;

use serde_json::Value;

use crate::message;

/// A core module with the function `$say`, which prints `length` bytes from `pointer`. The memory
/// has `initialize`, `default`, `start` and `it ran` at 16, 32, 48 and 64, each with a line break.
fn core_module(fields: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            {fields}
            (memory (export "memory") 1)
            (data (i32.const 16) "initialize\n") (data (i32.const 32) "default\n")
            (data (i32.const 48) "start\n") (data (i32.const 64) "it ran\n")
            (func $say (param $pointer i32) (param $length i32)
                (i32.store (i32.const 0) (local.get $pointer))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func $initialize (call $say (i32.const 16) (i32.const 11)))
            (func $default (call $say (i32.const 32) (i32.const 8)))
            (func $start (call $say (i32.const 48) (i32.const 6)))
            (func $ran (call $say (i32.const 64) (i32.const 7))))"#
    )
}

/// A component that exports `wasi:cli/run@0.2.0`. The core function `run` of its module calls
/// `body`, and can call the imported core function `$import`.
fn command(imports: &str, import: &str, body: &str) -> String {
    format!(
        r#"(component
            {imports}
            (core module $module
                (import "" "f" (func $import {import}))
                (func (export "run") (result i32) {body} (i32.const 0)))
            (core instance $instance
                (instantiate $module (with "" (instance (export "f" (func $lowered))))))
            (func $run (result (result)) (canon lift (core func $instance "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exported)))"#
    )
}

/// Asserts the phase of a node, and that its message contains each of some texts.
fn assert_node(node: &Value, phase: &str, contains: &[&str]) {
    assert_eq!(node["phase"], phase, "{node}");
    for text in contains {
        assert!(message(node).contains(text), "expected `{text}` in {node}");
    }
}
