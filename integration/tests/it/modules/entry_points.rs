//! The entry points of core modules, compared with `wasmtime run`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use wasm_workflow_integration::guests::program;

use super::{assert_node, core_module};
use crate::{start_in, template_of, template_of_wat, write_wat};

/// Exit code and standard output of `wasmtime run`.
fn wasmtime_run(module: &Path) -> (Option<i32>, String) {
    let output = Command::new(program("wasmtime"))
        .arg("run")
        .arg(module)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), stdout)
}

/// Names of modules, their fields, and what they print.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("start", r#"(export "_start" (func $start))"#, "start\n"),
    ("default", r#"(export "" (func $default))"#, "default\n"),
    (
        "initialize-and-default",
        r#"(export "_initialize" (func $initialize)) (export "" (func $default))"#,
        "initialize\ndefault\n",
    ),
    (
        "initialize-and-start",
        r#"(export "_initialize" (func $initialize)) (export "_start" (func $start))"#,
        "initialize\nstart\n",
    ),
    (
        "default-and-start",
        r#"(export "_start" (func $start)) (export "" (func $default))"#,
        "default\n",
    ),
    (
        "all-three",
        r#"(export "_start" (func $start)) (export "" (func $default)) (export "_initialize" (func $initialize))"#,
        "initialize\ndefault\n",
    ),
    (
        "the-empty-name-is-a-global",
        r#"(global (export "") i32 (i32.const 0)) (export "_start" (func $start))"#,
        "start\n",
    ),
    (
        "initialize-is-a-global",
        r#"(global (export "_initialize") i32 (i32.const 0)) (export "_start" (func $start))"#,
        "start\n",
    ),
    (
        "start-function-and-start",
        r#"(start $initialize) (export "_start" (func $start))"#,
        "initialize\nstart\n",
    ),
    // Kotlin up to 2.3 puts the program into `_initialize`.
    (
        "only-initialize",
        r#"(export "_initialize" (func $initialize))"#,
        "initialize\n",
    ),
    (
        "only-a-start-function",
        "(start $initialize)",
        "initialize\n",
    ),
    (
        "an-integer",
        r#"(func (export "") (result i32) (i32.const -7))"#,
        "-7\n",
    ),
    (
        "several-results",
        r#"(func (export "_start") (result i64 f64 f32) (i64.const 1) (f64.const 0.5) (f32.const 3))"#,
        "1\n0.5\n3\n",
    ),
];

#[tokio::test]
async fn entry_points_are_those_of_wasmtime_run() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    for (name, fields, printed) in PROGRAMS {
        let module = write_wat(directory.path(), name, &core_module(fields));
        let reference = wasmtime_run(&module);
        assert_eq!(reference, (Some(0), (*printed).to_owned()), "{name}");
        let node = executor.node(&template_of(&module)).await;
        assert_node(&node, "Succeeded", &[]);
        assert_eq!(
            node["outputs"]["result"].as_str(),
            printed.strip_suffix('\n'),
            "{name}: {node}"
        );
    }
}

#[tokio::test]
async fn a_program_fails_where_it_fails_in_wasmtime_run() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let cases = [
        (
            "initialize-traps",
            r#"(func (export "_initialize") unreachable) (export "_start" (func $start))"#,
            "134",
        ),
        (
            "initialize-exits",
            r#"(func (export "_initialize") (call $proc_exit (i32.const 3))) (export "_start" (func $start))"#,
            "3",
        ),
        (
            "start-function-exits",
            r#"(func $exit (call $proc_exit (i32.const 4))) (start $exit) (export "_start" (func $start))"#,
            "4",
        ),
        ("default-traps", r#"(func (export "") unreachable)"#, "134"),
        (
            "default-exits",
            r#"(func (export "") (call $proc_exit (i32.const 5)))"#,
            "5",
        ),
    ];
    for (name, fields, code) in cases {
        let module = write_wat(directory.path(), name, &core_module(fields));
        let (reference, printed) = wasmtime_run(&module);
        assert_eq!(reference, Some(code.parse().unwrap()), "{name}");
        assert_eq!(printed, "", "{name}");
        let node = executor.node(&template_of(&module)).await;
        assert_eq!(
            (&node["phase"], &node["outputs"]["exitCode"]),
            (&json!("Failed"), &json!(code)),
            "{name}: {node}"
        );
    }
}

/// `wasmtime run` takes parameters from the command line, and does nothing with a library.
#[tokio::test]
async fn a_function_that_cannot_be_called_without_arguments_is_no_entry_point() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let cases = [
        (
            "default-with-parameters",
            r#"(func (export "") (param i32))"#,
            "its export `` has parameters, and a step passes none",
        ),
        (
            "initialize-with-a-result",
            r#"(func (export "_initialize") (result i32) (i32.const 0)) (export "_start" (func $start))"#,
            "its export `_initialize` has parameters or results",
        ),
        (
            "reactor",
            r#"(export "_initialize" (func $initialize)) (func (export "add"))"#,
            "it exports `_initialize`, `add`, `memory`; it is a reactor",
        ),
        (
            "start-function-of-a-library",
            r#"(start $initialize) (func (export "add"))"#,
            "it exports `add`, `memory`; it is a library",
        ),
    ];
    for (name, fields, expected) in cases {
        let template = template_of_wat(directory.path(), name, &core_module(fields));
        let node = executor.node(&template).await;
        assert_node(
            &node,
            "Error",
            &["the module has no entry point: ", expected],
        );
    }
}
