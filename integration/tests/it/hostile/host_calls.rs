//! Host calls without a loop. A step ends when one of them returns, and a long one is cut.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::hostile::commands::{IMPORT_OPEN, OPEN, import, straight_line};
use wasm_workflow_integration::hostile::components;

use crate::{message, template_of_wat};

/// Time limit of the guests, and the time after which the test fails. A busy machine may delay the
/// end of a step. Without an end in the straight line, each guest would run for a minute or more.
const LIMIT: &str = "100ms";
const LATEST: Duration = Duration::from_secs(15);

/// Starts an executor whose compiler gets more memory than the default in a container of this size.
/// A long function without loops needs this memory.
fn start(directory: &Path) -> Executor {
    let config = json!({
        "sources": {"fileRoot": directory},
        "capacity": {"memory": "448Mi", "compileMemory": "1408Mi"},
        "limits": {"compile": {"memory": "1Gi"}},
    });
    Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::in_container()
    })
}

/// Runs a guest that must end within [`LATEST`].
async fn node_in_time(executor: &Executor, template: &Value) -> Value {
    let started = Instant::now();
    let node = executor.node(template).await;
    let took = started.elapsed();
    assert!(
        took < LATEST,
        "{} ended after {took:?}: {node}",
        template["name"]
    );
    node
}

fn with_limits(mut template: Value, limits: Value) -> Value {
    template["plugin"]["wasm"]["args"] = json!(["go"]);
    template["plugin"]["wasm"]["limits"] = limits;
    template
}

#[tokio::test]
async fn a_time_limit_ends_a_straight_line_of_host_calls_in_every_version_of_wasi() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path());
    let file = |name: &str, parameters: &str, call: &str| {
        let imports = format!("{IMPORT_OPEN} {}", import(name, parameters));
        // The file has 1 TiB and no blocks, so that reads are long.
        let set_size = r#"(import "wasi_snapshot_preview1" "fd_filestat_set_size"
            (func $set-size (param i32 i64) (result i32)))"#;
        let before = format!(
            "{OPEN} (drop (call $set-size (i32.load (i32.const 32)) (i64.const 1099511627776)))"
        );
        straight_line(&format!("{imports} {set_size}"), &before, call, 40_000)
    };
    let guests = [
        (
            "random_get",
            straight_line(
                &import("random_get", "i32 i32"),
                "",
                "(drop (call $call (i32.const 65536) (i32.const 104857600)))",
                400,
            ),
        ),
        (
            "random_get of one long buffer",
            straight_line(
                &import("random_get", "i32 i32"),
                "",
                "(drop (call $call (i32.const 65536) (i32.const 209649664)))",
                400,
            ),
        ),
        (
            "clock_time_get",
            straight_line(
                &import("clock_time_get", "i32 i64 i32"),
                "",
                "(drop (call $call (i32.const 1) (i64.const 0) (i32.const 96)))",
                100_000,
            ),
        ),
        (
            "fd_read",
            file(
                "fd_read",
                "i32 i32 i32 i32",
                "(drop (call $call (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 40)))",
            ),
        ),
        (
            "fd_pread",
            file(
                "fd_pread",
                "i32 i32 i32 i64 i32",
                "(drop (call $call (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i64.const 0) (i32.const 40)))",
            ),
        ),
        (
            "get-random-bytes of 0.2",
            components::random("0.2.0", 1 << 20, 2000),
        ),
        (
            "get-random-bytes of 0.3",
            components::random("0.3.0", 1 << 20, 2000),
        ),
        ("now of 0.2", components::clock("0.2.0", 200_000)),
        ("now of 0.3", components::clock("0.3.0", 200_000)),
    ];
    for (name, wat) in guests {
        let template = template_of_wat(directory.path(), &name.replace(' ', "-"), &wat);
        let limits = json!({"time": LIMIT, "memory": "256Mi"});
        let node = node_in_time(&executor, &with_limits(template, limits)).await;
        assert_eq!(node["outputs"]["exitCode"], "124", "{name}: {node}");
        assert!(
            message(&node).starts_with("time limit of 100ms exceeded"),
            "{name}: {node}"
        );
    }
}

#[tokio::test]
async fn bulk_instructions_in_a_straight_line_meet_the_time_limit() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path());
    for (name, fields, instruction) in [
        (
            "memory.fill",
            "",
            "(memory.fill (i32.const 0) (i32.const 1) (i32.const 209715200))",
        ),
        (
            "memory.copy",
            "",
            "(memory.copy (i32.const 0) (i32.const 1) (i32.const 209715199))",
        ),
        (
            "table.fill",
            "(table $t 2000000 funcref)",
            "(table.fill $t (i32.const 0) (ref.null func) (i32.const 2000000))",
        ),
        (
            "table.copy",
            "(table $t 2000000 funcref)",
            "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1999999))",
        ),
    ] {
        let wat = straight_line("", "", instruction, 4000);
        let wat = wat.replace("(func $long", &format!("{fields} (func $long"));
        let template = template_of_wat(directory.path(), name, &wat);
        let limits = json!({"time": LIMIT, "memory": "256Mi"});
        let node = node_in_time(&executor, &with_limits(template, limits)).await;
        assert_eq!(node["outputs"]["exitCode"], "124", "{name}: {node}");
    }
}

/// A module whose earlier runs were short starts on one of the server's own threads.
#[tokio::test]
async fn the_timeout_ends_a_straight_line_of_host_calls_of_a_module_that_was_fast_before() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path());
    let wat = straight_line(
        &import("random_get", "i32 i32"),
        "",
        "(drop (call $call (i32.const 65536) (i32.const 104857600)))",
        400,
    );
    let mut template = template_of_wat(directory.path(), "fast-before", &wat);
    template["plugin"]["wasm"]["limits"] = json!({"memory": "256Mi"});
    for _ in 0..4 {
        assert_eq!(executor.node(&template).await["phase"], "Succeeded");
    }
    template["plugin"]["wasm"]["args"] = json!(["go"]);
    template["timeout"] = json!("2s");
    let started = Instant::now();
    let nodes = futures::future::join_all((0..4).map(|_| executor.node(&template)));
    let (nodes, ()) = tokio::join!(nodes, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let asked = Instant::now();
        assert_eq!(executor.probe("/healthz").await, 200);
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "a probe waited for a guest"
        );
    });
    assert!(started.elapsed() < LATEST, "{:?}", started.elapsed());
    for node in nodes {
        assert!(message(&node).contains("2s"), "{node}");
        assert_ne!(node["phase"], "Succeeded", "{node}");
    }
}

#[tokio::test]
async fn a_limit_ends_a_straight_line_of_writes() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path());
    let writes: Vec<String> = (0..40)
        .map(|number| {
            let offset = number * (100_u64 << 20);
            format!(
                "(drop (call $call (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
                    (i64.const {offset}) (i32.const 40)))"
            )
        })
        .collect();
    let imports = format!(
        "{IMPORT_OPEN} {}",
        import("fd_pwrite", "i32 i32 i32 i64 i32")
    );
    let wat = straight_line(&imports, OPEN, &writes.concat(), 1);
    let template = template_of_wat(directory.path(), "pwrite", &wat);
    let limits = json!({"disk": "16Mi", "time": "60s", "memory": "256Mi"});
    let node = node_in_time(&executor, &with_limits(template, limits)).await;
    assert_eq!(node["outputs"]["exitCode"], "153", "{node}");

    let imports = import("fd_write", "i32 i32 i32 i32");
    let write = "(drop (call $call (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 40)))";
    let wat = straight_line(&imports, "", write, 100);
    let template = template_of_wat(directory.path(), "stdout", &wat);
    let limits = json!({"output": "8Mi", "time": "60s", "memory": "256Mi"});
    let node = node_in_time(&executor, &with_limits(template, limits)).await;
    assert!(
        message(&node).starts_with("output limit of 8Mi exceeded"),
        "{node}"
    );
}

/// The host copies without the guest, and the guest waits.
#[tokio::test]
async fn a_limit_ends_a_copy_that_the_host_makes_for_the_guest() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path());
    let wat = components::file_that_grows();
    let template = template_of_wat(directory.path(), "file-that-grows", &wat);
    let limits = json!({"disk": "512Mi", "time": LIMIT});
    let node = node_in_time(&executor, &with_limits(template, limits)).await;
    let code = node["outputs"]["exitCode"].as_str().unwrap_or_default();
    assert!(["124", "153"].contains(&code), "{node}");
}

/// A transfer in parts has the same effect as one transfer.
#[tokio::test]
async fn large_buffers_are_read_and_written_completely() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path());
    // Fills 10 MiB + 3 bytes with a pattern, writes and reads them, and compares each byte.
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 400)
        (data (i32.const 0) "tmp/f")
        ;; The first buffer is empty.
        (data (i32.const 16) "\00\00\00\00\00\00\00\00\00\00\01\00\03\00\a0\00")
        (data (i32.const 48) "\00\00\c0\00\03\00\a0\00")
        (func $check (param $actual i32) (param $expected i32) (param $code i32)
            (if (i32.ne (local.get $actual) (local.get $expected)) (then (call $exit (local.get $code)))))
        (func (export "_start") (local $i i32)
            (loop $next
                (i32.store8 (i32.add (i32.const 65536) (local.get $i))
                    (i32.rem_u (local.get $i) (i32.const 251)))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $i) (i32.const 10485763))))
            (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 1)
                (i64.const 0x1fffffff) (i64.const 0) (i32.const 0) (i32.const 32)) (i32.const 0) (i32.const 1))
            (call $check (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 2) (i32.const 40))
                (i32.const 0) (i32.const 2))
            (call $check (i32.load (i32.const 40)) (i32.const 10485763) (i32.const 3))
            (drop (call $seek (i32.load (i32.const 32)) (i64.const 0) (i32.const 0) (i32.const 80)))
            (call $check (call $read (i32.load (i32.const 32)) (i32.const 48) (i32.const 1) (i32.const 40))
                (i32.const 0) (i32.const 4))
            (call $check (i32.load (i32.const 40)) (i32.const 10485763) (i32.const 5))
            (local.set $i (i32.const 0))
            (loop $next
                (call $check (i32.load8_u (i32.add (i32.const 65536) (local.get $i)))
                    (i32.load8_u (i32.add (i32.const 12582912) (local.get $i))) (i32.const 6))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $i) (i32.const 10485763))))
            ;; At the end of the file, a read transfers the rest only.
            (drop (call $seek (i32.load (i32.const 32)) (i64.const 10000000) (i32.const 0) (i32.const 80)))
            (call $check (call $read (i32.load (i32.const 32)) (i32.const 48) (i32.const 1) (i32.const 40))
                (i32.const 0) (i32.const 7))
            (call $check (i32.load (i32.const 40)) (i32.const 485763) (i32.const 8))))"#;
    let template = template_of_wat(directory.path(), "large-buffers", wat);
    let node = executor.node(&template).await;
    assert_eq!(node["outputs"]["exitCode"], "0", "{node}");
}
