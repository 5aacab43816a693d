//! Hostile guests. Each ends within its limits, and does not delay another step in the same
//! process.

mod host_calls;
mod host_memory;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, template};

use crate::{message, wait_until_no_step_directory_is_left};

/// Runs a hostile guest, and short steps beside it until it ends. Returns the node of the hostile
/// guest.
async fn beside_a_neighbour(executor: &Executor, hostile: &Value) -> Value {
    let neighbour = template("noop-step");
    assert_eq!(
        executor.node(&neighbour).await["phase"],
        "Succeeded",
        "the first step, which compiles the module"
    );
    let mut served = 0;
    let mut slowest = Duration::ZERO;
    let node = {
        let hostile = executor.node(hostile);
        let beside = async {
            loop {
                let started = Instant::now();
                assert_eq!(executor.node(&neighbour).await["phase"], "Succeeded");
                slowest = slowest.max(started.elapsed());
                served += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { node = hostile => node, () = beside => unreachable!() }
    };
    // The bound is generous for noisy machines. A step that waited for the hostile guest would take
    // its whole five seconds.
    assert!(
        slowest < Duration::from_secs(4),
        "a step took {slowest:?}; {served} steps ran beside the hostile guest"
    );
    node
}

fn limited(guest: &str, limits: &Value, args: &Value) -> Value {
    let mut template = template(guest);
    template["plugin"]["wasm"]["limits"] = limits.clone();
    template["plugin"]["wasm"]["args"] = args.clone();
    template
}

#[tokio::test]
async fn hostile_guests_end_and_do_not_delay_other_steps() {
    let executor = Executor::start_with(Options::in_container());
    let cases = [
        (
            "spin",
            json!({"time": "5s"}),
            json!([]),
            "124",
            "time limit of 5s exceeded",
        ),
        (
            "sleep",
            json!({"time": "5s"}),
            json!([]),
            "124",
            "time limit of 5s exceeded",
        ),
        (
            "memory-hog",
            json!({"memory": "64Mi"}),
            json!([]),
            "137",
            "memory limit of 64Mi exceeded",
        ),
        (
            "trap",
            json!({}),
            json!([]),
            "134",
            "the module trapped (wasm `unreachable` instruction executed): about to trap",
        ),
        (
            "flood-stdout",
            json!({"output": "1Mi"}),
            json!([]),
            "153",
            "output limit of 1Mi exceeded",
        ),
        (
            "fill-disk",
            json!({"disk": "8Mi", "time": "60s"}),
            json!([]),
            "153",
            "disk limit exceeded: more than 8Mi",
        ),
        ("recurse", json!({}), json!([]), "134", "the module trapped"),
        (
            "open-files",
            json!({}),
            json!([]),
            "134",
            "the module trapped",
        ),
        (
            "malformed-result",
            json!({}),
            json!([]),
            "0",
            "the module's /work/result.json is malformed",
        ),
        (
            "malformed-result",
            json!({}),
            json!(["{\"phase\": \"Running\"}"]),
            "0",
            "its phase is `Running`, and must be",
        ),
        (
            "malformed-result",
            json!({}),
            json!(["[]"]),
            "0",
            "the module's /work/result.json is malformed",
        ),
        (
            "malformed-result",
            json!({}),
            json!([r#"{"outputs":{"parameters":[{"name":"a b","value":1}]}}"#]),
            "0",
            "`a b` cannot be a parameter's name",
        ),
        (
            "malformed-result",
            json!({}),
            json!([r#"{"outputs":{"artifacts":[{"name":"x","path":"/../../etc/passwd"}]}}"#]),
            "0",
            "`/../../etc/passwd` is not a path of a file below `/`",
        ),
    ];
    for (guest, limits, args, exit_code, expected) in cases {
        let node = beside_a_neighbour(&executor, &limited(guest, &limits, &args)).await;
        assert_eq!(node["phase"], "Failed", "{guest}: {node}");
        assert_eq!(node["outputs"]["exitCode"], exit_code, "{guest}: {node}");
        assert!(message(&node).contains(expected), "{guest}: {node}");
    }
    assert_eq!(executor.probe("/healthz").await, 200);
    wait_until_no_step_directory_is_left(&executor).await;
}

#[tokio::test]
async fn empty_files_count_towards_the_entry_limit() {
    let executor = Executor::start_with(wasm_workflow_integration::executor::Options {
        config: Some(
            json!({"sources": {"fileRoot": wasm_workflow_integration::guests::directory()}, "limits": {"entries": 1000}})
                .to_string(),
        ),
        ..wasm_workflow_integration::executor::Options::in_container()
    });
    let node = executor
        .node(&limited(
            "fill-disk",
            &json!({"time": "60s"}),
            &json!(["entries"]),
        ))
        .await;
    assert!(
        message(&node).contains("or more than 1000 files and directories"),
        "{node}"
    );
}

#[tokio::test]
async fn paths_and_links_do_not_reach_the_host() {
    let executor = Executor::start_with(Options::in_container());
    let mut template = template("climb");
    template["outputs"] =
        json!({"artifacts": [{"name": "secret", "path": "/out/secret", "archive": {"none": {}}}]});
    let node = executor.node(&template).await;
    assert_eq!(
        node["outputs"]["result"], "",
        "the guest prints the paths that it could read: {node}"
    );
    assert_eq!(
        node["phase"], "Failed",
        "a link out of the directory is not an output: {node}"
    );
    let mut template = self::template("climb");
    template["outputs"] = json!({"parameters": [{"name": "secret", "valueFrom": {"path": "/out/secret", "default": "none"}}]});
    let node = executor.node(&template).await;
    assert!(!node.to_string().contains("root:"), "{node}");
}

#[tokio::test]
async fn a_step_runs_beside_sixteen_spinning_guests() {
    let executor = Executor::start_with(Options::in_container());
    let spin = limited("spin", &json!({"time": "1s"}), &json!([]));
    let spinning = futures::future::join_all((0..16).map(|_| executor.node(&spin)));
    let neighbour = template("noop-step");
    let (nodes, last) = tokio::join!(spinning, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        executor.node(&neighbour).await
    });
    assert!(
        nodes
            .iter()
            .all(|node| message(node).contains("time limit of 1s exceeded")),
        "{nodes:?}"
    );
    assert_eq!(last["phase"], "Succeeded");
}

/// After some fast runs, a module runs on the server's own threads. There it sleeps in a host call
/// in which the WASI library would block the thread.
#[tokio::test]
async fn a_sleeping_guest_that_was_fast_before_meets_its_time_limit() {
    // One subscription to a relative clock for 584 years. The results are written to the addresses
    // `events` and `written`.
    let module = |events: &str, written: &str| {
        format!(
            r#"(module
                (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (data (i32.const 24) "\\ff\\ff\\ff\\ff\\ff\\ff\\ff\\ff")
                (func (export "_start")
                    (drop (call $sizes (i32.const 1024) (i32.const 1028)))
                    (if (i32.gt_u (i32.load (i32.const 1024)) (i32.const 1))
                        (then (call $exit (call $poll (i32.const 0) {events} (i32.const 1) {written}))))))"#
        )
    };
    let valid = "(i32.const 2048)";
    let out_of_bounds = "(i32.const 0xfffffff0)";
    let directory = tempfile::tempdir().unwrap();
    let executor = crate::start_in_container(directory.path());
    for (name, events, written, code) in [
        ("events", out_of_bounds, valid, "21"),
        ("written", valid, out_of_bounds, "21"),
        ("both-right", valid, valid, "124"),
    ] {
        let mut template = crate::template_of_wat(directory.path(), name, &module(events, written));
        for _ in 0..3 {
            assert_eq!(
                executor.node(&template).await["phase"],
                "Succeeded",
                "a fast run"
            );
        }
        template["plugin"]["wasm"]["args"] = json!(["sleep"]);
        template["plugin"]["wasm"]["limits"] = json!({"time": "1s"});
        let nodes = futures::future::join_all((0..4).map(|_| executor.node(&template))).await;
        assert!(
            nodes.iter().all(|node| node["outputs"]["exitCode"] == code),
            "{name}: {nodes:?}"
        );
        assert_eq!(executor.probe("/healthz").await, 200);
    }
}
