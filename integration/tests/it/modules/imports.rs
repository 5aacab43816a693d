//! An import that the executor does not offer stops a module only where the module calls it.

use serde_json::{Value, json};

use super::{assert_node, command, core_module};
use crate::cli::{Cli, stdout};
use crate::{start_in, template_of, template_of_wat, write_wat};

/// Emscripten's notification, with a memory that grows, and that of TeaVM.
#[tokio::test]
async fn notifications_for_javascript_do_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let cases = [
        (
            "emscripten",
            r#"(import "env" "emscripten_notify_memory_growth" (func $notify (param i32)))
               (func (export "_start")
                 (drop (memory.grow (i32.const 1))) (call $notify (i32.const 0)) (call $ran))"#,
        ),
        (
            "emscripten-in-a-start-function",
            r#"(import "env" "emscripten_notify_memory_growth" (func $notify (param i32)))
               (func $grow (call $notify (i32.const 0))) (start $grow)
               (func (export "_start") (call $ran))"#,
        ),
        (
            "emscripten-with-64-bits",
            r#"(import "env" "emscripten_notify_memory_growth" (func $notify (param i64)))
               (func (export "_start") (call $notify (i64.const 0)) (call $ran))"#,
        ),
        (
            "teavm",
            r#"(import "teavmHeapTrace" "allocate" (func $notify (param i32 i32)))
               (func (export "_start") (call $notify (i32.const 0) (i32.const 8)) (call $ran))"#,
        ),
    ];
    for (name, fields) in cases {
        let template = template_of_wat(directory.path(), name, &core_module(fields));
        let node = executor.node(&template).await;
        assert_node(&node, "Succeeded", &[]);
        assert_eq!(node["outputs"]["result"], "it ran", "{name}");
    }
}

/// Module, name, type and call of a core import, and the message of a module that calls it.
const CORE: &[(&str, &str, &str, &str, &[&str])] = &[
    (
        "env",
        "missing_function",
        "(param i32) (result i64)",
        "(drop (call $import (i32.const 1)))",
        &[
            "the module called `missing_function` from `env`, which this executor does not offer",
            "The linker did not find this symbol",
        ],
    ),
    (
        "env",
        "__syscall_getcwd",
        "(param i32 i32) (result i32)",
        "(drop (call $import (i32.const 1) (i32.const 1)))",
        &["`__syscall_getcwd` from `env`", "-sSTANDALONE_WASM"],
    ),
    (
        "__wbindgen_placeholder__",
        "__wbindgen_throw",
        "(param i32 i32)",
        "(call $import (i32.const 1) (i32.const 1))",
        &["`__wbindgen_throw`", "without wasm-bindgen"],
    ),
    (
        "gojs",
        "runtime.ticks",
        "(result f64)",
        "(drop (call $import))",
        &["`runtime.ticks` from `gojs`", "tinygo build -target=wasip1"],
    ),
    (
        "wasi_snapshot_preview1",
        "sock_open",
        "(param i32 i32 i32) (result i32)",
        "(drop (call $import (i32.const 1) (i32.const 1) (i32.const 1)))",
        &["`sock_open`", "an extension of another runtime"],
    ),
    (
        "wasix_32v1",
        "thread_exit",
        "(param i32)",
        "(call $import (i32.const 1))",
        &["`thread_exit` from `wasix_32v1`", "without WASIX"],
    ),
    (
        "wasi",
        "thread-spawn",
        "(param i32) (result i32)",
        "(drop (call $import (i32.const 1)))",
        &["`thread-spawn` from `wasi`", "Build without threads"],
    ),
    (
        "wasi_experimental_http",
        "close",
        "(param i32) (result i32)",
        "(drop (call $import (i32.const 1)))",
        &["`close`", "an input artifact of the kind `http`"],
    ),
    (
        "acme",
        "make",
        "(param externref) (result funcref)",
        "(drop (call $import (ref.null extern)))",
        &["`make` from `acme`", "without this import"],
    ),
];

#[tokio::test]
async fn an_unknown_import_of_a_core_module_traps_only_when_it_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    for (module, name, ty, call, expected) in CORE {
        let import = format!(r#"(import "{module}" "{name}" (func $import {ty}))"#);
        let idle = core_module(&format!(r#"{import} (export "_start" (func $ran))"#));
        let node = executor
            .node(&template_of_wat(
                directory.path(),
                &format!("{name}-idle"),
                &idle,
            ))
            .await;
        assert_node(&node, "Succeeded", &[]);
        assert_eq!(node["outputs"]["result"], "it ran", "{name}");
        let calling = core_module(&format!(
            r#"{import} (func (export "_start") (call $ran) {call})"#
        ));
        let node = executor
            .node(&template_of_wat(
                directory.path(),
                &format!("{name}-calling"),
                &calling,
            ))
            .await;
        assert_node(&node, "Failed", expected);
        assert_eq!(node["outputs"]["exitCode"], "134", "{node}");
        assert_eq!(node["outputs"]["result"], "it ran", "{node}");
    }
}

/// AssemblyScript's strings are UTF-16, with their length before them.
#[tokio::test]
async fn abort_ends_the_module_with_its_message() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let fields = |call: &str| {
        core_module(&format!(
            r#"(import "env" "abort" (func $abort (param i32 i32 i32 i32)))
               (data (i32.const 100) "\06\00\00\00b\00a\00d\00")
               (data (i32.const 120) "\08\00\00\00a\00.\00t\00s\00")
               (func (export "_start") {call})"#
        ))
    };
    let cases = [
        (
            "(call $abort (i32.const 104) (i32.const 124) (i32.const 3) (i32.const 5))",
            "the module trapped (the program aborted: bad, in a.ts:3:5)",
        ),
        (
            "(call $abort (i32.const 0) (i32.const -1) (i32.const 3) (i32.const 5))",
            "the module trapped (the program aborted)",
        ),
    ];
    for (number, (call, expected)) in cases.into_iter().enumerate() {
        let name = format!("abort-{number}");
        let template = template_of_wat(directory.path(), &name, &fields(call));
        assert_node(&executor.node(&template).await, "Failed", &[expected]);
    }
    let emscripten = core_module(
        r#"(import "env" "abort" (func $abort)) (func (export "_start") (call $abort))"#,
    );
    let template = template_of_wat(directory.path(), "emscripten-abort", &emscripten);
    let node = executor.node(&template).await;
    assert_node(&node, "Failed", &["(the program aborted)"]);
}

/// Imports of a component. The last one is `$lowered`, with its core type and a call.
struct Imported {
    name: &'static str,
    imports: &'static str,
    core_type: &'static str,
    call: &'static str,
    expected: &'static [&'static str],
}

const COMPONENTS: &[Imported] = &[
    // What the tools for JavaScript and .NET make by default.
    Imported {
        name: "http",
        imports: r#"
            (import "wasi:http/outgoing-handler@0.2.0" (instance $http (export "handle" (func))))
            (alias export $http "handle" (func $handle))
            (core func $lowered (canon lower (func $handle)))"#,
        core_type: "",
        call: "(call $import)",
        expected: &[
            "the module called `handle` of `wasi:http/outgoing-handler@0.2.0`, which this executor does not offer",
            "jco componentize --disable http",
        ],
    },
    // An interface that the host offers defines a resource, and an unknown one uses it.
    Imported {
        name: "resources",
        imports: r#"
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "input-stream" (type (sub resource)))))
            (alias export $streams "input-stream" (type $input-stream))
            (import "wasi:http/types@0.2.3" (instance $types
                (alias outer 1 $input-stream (type $outer))
                (export "input-stream" (type $stream (eq $outer)))
                (export "fields" (type $fields (sub resource)))
                (export "[constructor]fields" (func (result (own $fields))))
                (export "[method]fields.body"
                    (func (param "self" (borrow $fields)) (result (own $stream))))))
            (alias export $types "fields" (type $fields))
            (import "acme:gateway/send@1.0.0" (instance
                (alias outer 1 $fields (type $outer))
                (export "fields" (type $fields (eq $outer)))
                (export "send" (func (param "fields" (own $fields))))))
            (alias export $types "[constructor]fields" (func $constructor))
            (core func $lowered (canon lower (func $constructor)))"#,
        core_type: "(result i32)",
        call: "(drop (call $import))",
        expected: &["the module called `[constructor]fields` of `wasi:http/types@0.2.3`"],
    },
    // A later release of an interface that the host offers.
    Imported {
        name: "newer",
        imports: r#"
            (import "wasi:cli/environment@0.2.99" (instance $environment
                (export "initial-cwd" (func (result (option string))))
                (export "exotic" (func))))
            (alias export $environment "exotic" (func $exotic))
            (core func $lowered (canon lower (func $exotic)))"#,
        core_type: "",
        call: "(call $import)",
        expected: &[
            "the module called `exotic` of `wasi:cli/environment@0.2.99`",
            "up to version 0.2.12 and 0.3.0",
        ],
    },
    Imported {
        name: "draft",
        imports: r#"
            (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
                (export "open" (func (param "n" u32)))))
            (alias export $store "open" (func $open))
            (core func $lowered (canon lower (func $open)))"#,
        core_type: "(param i32)",
        call: "(call $import (i32.const 1))",
        expected: &["`open` of `wasi:keyvalue/store@0.2.0-draft2`", "no drafts"],
    },
    Imported {
        name: "without-an-interface",
        imports: r#"
            (import "log" (func $log (param "n" u32)))
            (core func $lowered (canon lower (func $log)))"#,
        core_type: "(param i32)",
        call: "(call $import (i32.const 1))",
        expected: &["the module called `log`, which this executor does not offer"],
    },
    Imported {
        name: "async",
        imports: r#"
            (import "acme:host/wait" (instance $wait (export "wait" (func async))))
            (alias export $wait "wait" (func $f))
            (core func $lowered (canon lower (func $f) async))"#,
        core_type: "(result i32)",
        call: "(drop (call $import))",
        expected: &["the module called `wait` of `acme:host/wait`"],
    },
];

#[tokio::test]
async fn an_unknown_import_of_a_component_traps_only_when_it_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    for case in COMPONENTS {
        let idle = command(case.imports, case.core_type, "");
        let idle = template_of_wat(directory.path(), &format!("{}-idle", case.name), &idle);
        assert_node(&executor.node(&idle).await, "Succeeded", &[]);
        let calling = command(case.imports, case.core_type, case.call);
        let calling = template_of_wat(directory.path(), case.name, &calling);
        let node = executor.node(&calling).await;
        assert_node(&node, "Failed", case.expected);
        assert_eq!(node["outputs"]["exitCode"], "134", "{node}");
    }
}

/// A function that the host offers works in a component with an unknown import beside it.
#[tokio::test]
async fn known_imports_work_beside_unknown_ones() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let exit = command(
        r#"(import "wasi:cli/exit@0.2.0" (instance $exit
               (export "exit" (func (param "status" (result))))))
           (import "acme:host/unknown@1.0.0" (instance (export "f" (func))))
           (alias export $exit "exit" (func $f))
           (core func $lowered (canon lower (func $f)))"#,
        "(param i32)",
        "(call $import (i32.const 1))",
    );
    let node = executor
        .node(&template_of_wat(directory.path(), "exit", &exit))
        .await;
    assert_node(&node, "Failed", &["exit code 1"]);
}

#[tokio::test]
async fn inspect_lists_the_imports_that_trap() {
    let cli = Cli::new();
    let directory = cli.at("");
    let inspect = |name: &str| {
        let file = format!("{name}.wasm");
        let shown = cli.run(&["inspect", &file, "--json"]);
        let shown: Value = serde_json::from_str(stdout(&shown)).unwrap();
        let text = stdout(&cli.run(&["inspect", &file])).to_owned();
        (shown, text)
    };
    let core = core_module(
        r#"(import "env" "missing" (func)) (import "env" "emscripten_notify_memory_growth" (func (param i32)))
           (export "" (func $ran))"#,
    );
    write_wat(&directory, "core", &core);
    let (shown, text) = inspect("core");
    assert_eq!(shown["runs"], "command (WASI 0.1)", "{shown}");
    assert_eq!(shown["trapsWhenCalled"], json!(["env missing"]));
    assert!(
        text.contains("\n  env missing (not offered; traps when called)\n"),
        "{text}"
    );
    let expected = [
        ("http", "wasi:http/outgoing-handler@0.2.0"),
        ("newer", "wasi:cli/environment@0.2.99#exotic"),
        ("without-an-interface", "log"),
    ];
    for (name, trapping) in expected {
        let case = COMPONENTS.iter().find(|case| case.name == name).unwrap();
        write_wat(&directory, name, &command(case.imports, case.core_type, ""));
        let (shown, text) = inspect(name);
        assert_eq!(shown["runs"], "command (WASI 0.2)", "{shown}");
        assert_eq!(shown["trapsWhenCalled"], json!([trapping]), "{shown}");
        assert!(text.contains("(not offered"), "{text}");
    }
}

/// A component in JavaScript that its toolchain built with all features. It imports an HTTP client,
/// and does not use it.
#[tokio::test]
async fn a_javascript_component_with_an_unused_http_client_runs() {
    let module = wasm_workflow_integration::guests::program("js-step.wasm");
    let executor = start_in(module.parent().unwrap());
    let inspected = Cli::new().run(&["inspect", module.to_str().unwrap(), "--json"]);
    let inspected: Value = serde_json::from_str(stdout(&inspected)).unwrap();
    let trapping = inspected["trapsWhenCalled"].as_array().unwrap();
    assert!(
        trapping.iter().any(|name| name
            .as_str()
            .unwrap()
            .starts_with("wasi:http/outgoing-handler@")),
        "{inspected}"
    );
    let mut template = template_of(&module);
    template["inputs"] = json!({"parameters": [{"name": "name", "value": "Ada"}]});
    let node = executor.node(&template).await;
    assert_node(&node, "Succeeded", &[]);
}
