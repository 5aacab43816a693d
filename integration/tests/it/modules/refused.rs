//! Modules that the executor cannot run: the error says what the module is, and what to build
//! instead. `inspect` gives the same reason.

use serde_json::Value;

use super::assert_node;
use crate::cli::{Cli, stdout};
use crate::{start_in, template_of, template_of_wat, write_wat};

struct Refused {
    name: &'static str,
    wat: &'static str,
    /// Texts in the message of the node. The first is also the reason that `inspect` gives.
    expected: &'static [&'static str],
}

const REFUSED: &[Refused] = &[
    Refused {
        name: "object-file",
        wat: r#"(module (@custom "linking" "\02") (import "env" "__linear_memory" (memory 1)))"#,
        expected: &[
            "the module has no entry point: it is an object file, which is not linked yet",
            "Link it into a program",
        ],
    },
    Refused {
        name: "shared-library",
        wat: r#"(module (@custom "dylink.0" "\01\00") (import "env" "memory" (memory 1)) (func (export "f")))"#,
        expected: &["it is a shared library", "without `-shared`"],
    },
    Refused {
        name: "imported-memory",
        wat: r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#,
        expected: &[
            "the module imports the memory `memory` from `env`, which this executor does not offer",
            "do not use `--allow-undefined` or `--import-memory`",
        ],
    },
    Refused {
        name: "imported-table",
        wat: r#"(module (import "env" "__indirect_function_table" (table 1 funcref)) (func (export "_start")))"#,
        expected: &["the module imports the table `__indirect_function_table` from `env`"],
    },
    Refused {
        name: "imported-global",
        wat: r#"(module (import "acme" "version" (global i32)) (func (export "_start")))"#,
        expected: &["the module imports the global `version` from `acme`"],
    },
    Refused {
        name: "imported-tag",
        wat: r#"(module (import "env" "__cpp_exception" (tag (param i32))) (func (export "_start")))"#,
        expected: &["the module imports the tag `__cpp_exception` from `env`"],
    },
    Refused {
        name: "wasi-threads",
        wat: r#"(module (import "env" "memory" (memory 1 1 shared)) (import "wasi" "thread-spawn" (func (param i32) (result i32))) (func (export "_start")))"#,
        expected: &[
            "the module uses shared memory for threads, which this executor does not have",
            "not for `wasm32-wasip1-threads`",
        ],
    },
    Refused {
        name: "own-shared-memory",
        wat: r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#,
        expected: &["the module uses shared memory for threads"],
    },
    Refused {
        name: "old-exceptions",
        wat: r#"(module (func (export "_start") try catch_all end))"#,
        expected: &[
            "the module uses the old proposal for exceptions, which this executor does not have",
            "`wasm-opt --translate-to-exnref`",
        ],
    },
    Refused {
        name: "wide-arithmetic",
        wat: r#"(module (func (export "_start") (drop (drop (i64.mul_wide_u (i64.const 1) (i64.const 2))))))"#,
        expected: &["the module uses the proposal \"wide arithmetic\""],
    },
    Refused {
        name: "wasm-bindgen",
        wat: r#"(module (import "./app_bg.js" "__wbg_log_1" (func (param i32))) (memory (export "memory") 1) (func (export "run")) (func (export "__wbindgen_malloc")))"#,
        expected: &[
            "the module has no entry point: it exports `memory`, `run`, `__wbindgen_malloc`; it was built for JavaScript, by wasm-bindgen",
            "Build for `wasm32-wasip1`",
        ],
    },
    Refused {
        name: "go-for-javascript",
        wat: r#"(module (import "gojs" "runtime.wasmExit" (func (param i32))) (memory (export "mem") 1) (func (export "run") (param i32 i32)) (func (export "resume")) (func (export "getsp") (result i32) (i32.const 0)))"#,
        expected: &[
            "the module has no entry point: it exports `mem`, `run`, `resume`, `getsp`; it was built for JavaScript, by Go or TinyGo",
            "`GOOS=wasip1 GOARCH=wasm go build`",
        ],
    },
    Refused {
        name: "emscripten",
        wat: r#"(module (import "env" "emscripten_resize_heap" (func (param i32) (result i32))) (memory (export "memory") 1) (func (export "main")) (func (export "__wasm_call_ctors")))"#,
        expected: &[
            "it was built for JavaScript, by Emscripten",
            "`-sSTANDALONE_WASM",
        ],
    },
    Refused {
        name: "emscripten-with-short-names",
        wat: r#"(module (import "a" "a" (func (param i32))) (memory (export "b") 1) (func (export "c")))"#,
        expected: &["it was built for JavaScript, by Emscripten"],
    },
    Refused {
        name: "assemblyscript",
        wat: r#"(module (import "env" "abort" (func (param i32 i32 i32 i32))) (memory (export "memory") 1) (func (export "add")))"#,
        expected: &[
            "it was built for JavaScript, by AssemblyScript",
            "@assemblyscript/wasi-shim",
        ],
    },
    Refused {
        name: "rust-library",
        wat: r#"(module (memory (export "memory") 1) (func (export "add") (param i32 i32) (result i32) (i32.const 0)) (global (export "__heap_base") i32 (i32.const 1)))"#,
        expected: &[
            "the module has no entry point: it exports `memory`, `add`, `__heap_base`; it is a library",
            "Build a program with a `main` function",
        ],
    },
    Refused {
        name: "http-handler",
        wat: r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#,
        expected: &[
            "the module has no entry point: it only answers HTTP requests (`wasi:http/incoming-handler@0.2.0`)",
            "Build a command, which exports `wasi:cli/run`",
        ],
    },
    Refused {
        name: "http-handler-of-wasi-0-3",
        wat: r#"(component (instance $i) (export "wasi:http/handler@0.3.0" (instance $i)))"#,
        expected: &["it only answers HTTP requests (`wasi:http/handler@0.3.0`)"],
    },
    Refused {
        name: "spin-trigger",
        wat: r#"(component (instance $i) (export "fermyon:spin/inbound-redis@2.0.0" (instance $i)))"#,
        expected: &["it was built for Spin", "without Spin's SDK"],
    },
    Refused {
        name: "release-candidate",
        wat: r#"(component (instance $i) (export "wasi:cli/run@0.2.0-rc-2023-12-05" (instance $i)))"#,
        expected: &[
            "the module has no entry point: it exports `wasi:cli/run@0.2.0-rc-2023-12-05`, which is not a release of WASI",
            "build with a current toolchain",
        ],
    },
    Refused {
        name: "release-candidate-of-wasi-0-3",
        wat: r#"(component (instance $i) (export "wasi:cli/run@0.3.0-rc-2025-09-16" (instance $i)))"#,
        expected: &[
            "it exports `wasi:cli/run@0.3.0-rc-2025-09-16`, which is not a release of WASI",
        ],
    },
    Refused {
        name: "component-library",
        wat: r#"(component (instance $i) (export "acme:tools/resize@1.0.0" (instance $i)))"#,
        expected: &[
            "the module has no entry point: it exports `acme:tools/resize@1.0.0`",
            "A step needs `wasi:cli/run`, or the function `run` of the step world",
        ],
    },
    Refused {
        name: "imported-module",
        wat: r#"(component (import "acme-module" (core module)) (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
        expected: &["the module imports the module `acme-module`"],
    },
];

#[tokio::test]
async fn a_module_that_cannot_run_is_refused_with_its_kind_and_a_remedy() {
    let cli = Cli::new();
    let executor = start_in(&cli.at(""));
    for refused in REFUSED {
        write_wat(&cli.at(""), refused.name, refused.wat);
        let file = format!("{}.wasm", refused.name);
        let node = executor.node(&template_of(&cli.at(&file))).await;
        assert_node(&node, "Error", refused.expected);
        let shown = cli.run(&["inspect", &file, "--json"]);
        let shown: Value = serde_json::from_str(stdout(&shown)).unwrap();
        assert_eq!(shown["runs"], Value::Null, "{}: {shown}", refused.name);
        let reason = shown["refused"].as_str().unwrap();
        assert!(reason.contains(refused.expected[0]), "{shown}");
        let text = cli.run(&["inspect", &file]);
        assert!(
            stdout(&text).contains(&format!("runs as: nothing, because {reason}\nhint:    ")),
            "{}",
            stdout(&text)
        );
    }
}

/// The types of imports are compared when the module is linked, which `inspect` does not do.
#[tokio::test]
async fn an_import_with_another_type_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let cases = [
        (
            "64-bit-memory",
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i64 i64 i64) (result i32))) (memory (export "memory") i64 1) (func (export "_start")))"#,
            [
                "the module imports `fd_write` from `wasi_snapshot_preview1` with another type",
                "WASI 0.1 has pointers of 32 bits",
            ],
        ),
        (
            "component",
            r#"(component (import "wasi:cli/exit@0.2.0" (instance (export "exit" (func (param "status" u8))))) (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
            [
                "the module imports `wasi:cli/exit@0.2.0` with other types",
                "which this executor does not offer",
            ],
        ),
    ];
    for (name, wat, expected) in cases {
        let template = template_of_wat(directory.path(), name, wat);
        assert_node(&executor.node(&template).await, "Error", &expected);
    }
}

/// The host defines a function for each unknown import. So the number of imports is bounded.
#[tokio::test]
async fn a_module_has_at_most_10000_imports() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    for (count, phase) in [(9_999, "Succeeded"), (10_001, "Error")] {
        let imports = (0..count).map(|number| format!(r#"(import "m" "f{number}" (func))"#));
        let imports: String = imports.collect();
        let wat = format!(r#"(module {imports} (import "n" "g" (func)) (func (export "_start")))"#);
        let name = format!("imports-{count}");
        let template = template_of_wat(directory.path(), &name, &wat);
        let node = executor.node(&template).await;
        assert_node(&node, phase, &[]);
        if phase == "Error" {
            let expected = "the module imports more than 10000 functions";
            assert_node(&node, phase, &[expected]);
        }
    }
}

/// A memory of 64 bits alone is a part of WebAssembly 3.0.
#[tokio::test]
async fn a_module_with_a_64_bit_memory_runs() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let wat = r#"(module (memory (export "memory") i64 1) (func (export "_start") (i32.store (i64.const 8) (i32.const 1))))"#;
    let template = template_of_wat(directory.path(), "memory64", wat);
    assert_node(&executor.node(&template).await, "Succeeded", &[]);
}

#[tokio::test]
async fn a_file_of_another_format_is_named_with_a_remedy() {
    let cli = Cli::new();
    let executor = start_in(&cli.at(""));
    let cases: [(&str, &[u8], &[&str]); 4] = [
        (
            "text.wasm",
            b";; written by hand\n(module)",
            &[
                "this is not WebAssembly but WebAssembly text",
                "Compile it with `wasm-tools parse`",
            ],
        ),
        (
            "compiled.wasm",
            b"\x7fELF\x02\x01\x01\xc8\0\0\0\0",
            &[
                "machine code that wasmtime compiled (`.cwasm`)",
                "Use the `.wasm` file",
            ],
        ),
        (
            "library.wasm",
            b"!<arch>\nmodule.o/       0",
            &["a static library", "Link it into a program"],
        ),
        (
            "old-component.wasm",
            b"\0asm\x0c\0\x01\0",
            &[
                "a component in the pre-release format 12",
                "with a current toolchain",
            ],
        ),
    ];
    for (name, bytes, expected) in cases {
        std::fs::write(cli.at(name), bytes).unwrap();
        let node = executor.node(&template_of(&cli.at(name))).await;
        assert_node(&node, "Error", expected);
    }
}
