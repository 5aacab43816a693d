//! Errors name the wrong value, its location and a remedy. The process continues after each of
//! them.

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, HttpReply, Options, request, template};
use wasm_workflow_integration::guests;

use crate::{message, start_in, template_of, template_of_wat};

fn assert_error(node: &Value, expected: &str) {
    assert_eq!(node["phase"], "Error", "{node}");
    assert!(
        message(node).contains(expected),
        "expected `{expected}` in {node}"
    );
}

#[tokio::test]
async fn files_that_are_not_webassembly_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let whole = std::fs::read(guests::guest("word-count")).unwrap();
    let cases: [(&[u8], &str); 5] = [
        (
            b"<!DOCTYPE html><html><title>Sign in</title>",
            "this is not WebAssembly but an HTML page, perhaps a login page",
        ),
        (&whole[..whole.len() / 2], "the module is damaged"),
        (&whole[..6], "the module is damaged"),
        (b"", "an empty file"),
        (
            b"\0asm\x01\0\0\0",
            "the module has no entry point: it exports nothing",
        ),
    ];
    for (number, (bytes, expected)) in cases.into_iter().enumerate() {
        let path = directory.path().join(format!("{number}.wasm"));
        std::fs::write(&path, bytes).unwrap();
        assert_error(&executor.node(&template_of(&path)).await, expected);
    }
}

#[tokio::test]
async fn mistakes_in_templates_are_named_with_their_location() {
    let executor = Executor::start();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut template = template("noop-command");
        change(&mut template);
        template
    };
    let wasm = |key: &'static str, value: Value| {
        with(&move |template| template["plugin"]["wasm"][key] = value.clone())
    };
    let cases = [
        (
            wasm("modul", json!("x")),
            "`template.plugin.wasm`: unknown key `modul`; did you mean `module`? (if the module reads it as an option, move it under `options`)",
        ),
        (
            wasm("image", json!("alpine")),
            "unknown key `image`; known keys are",
        ),
        (
            wasm("resources", json!({"limits": {"memory": "1Gi"}})),
            "(write `limits.memory`, `limits.time` and `limits.disk`; a module has no requests)",
        ),
        (
            wasm(
                "env",
                json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            ),
            "`template.plugin.wasm.env[0].valueFrom`: not supported by this version; use `value`",
        ),
        (
            wasm("limits", json!({"memroy": "1Gi"})),
            "`template.plugin.wasm.limits`: unknown key `memroy`; did you mean `memory`?",
        ),
        (
            wasm("limits", json!({"memory": "lots"})),
            "`template.plugin.wasm.limits.memory`: `lots` is not a number of bytes; write it like `256Mi`",
        ),
        (
            wasm("limits", json!({"time": "0s"})),
            "`template.plugin.wasm.limits.time`: must be more than 0",
        ),
        (
            wasm(
                "module",
                json!({"oci": "a/b", "http": {"url": "https://x"}}),
            ),
            "give exactly one of `oci`, `http`",
        ),
        (
            wasm("module", json!({"wapm": "a/b@1"})),
            "its version must be exact",
        ),
        (
            wasm(
                "module",
                json!({"http": {"url": "ftp://example.com/m.wasm"}}),
            ),
            "it must start with `https://`",
        ),
        (
            wasm("module", json!("oci://UPPER CASE")),
            "is not a module reference",
        ),
        (
            wasm(
                "permissions",
                json!({"http": {"allowed_hosts": ["https://x"], "max_concurrent_requests": 1}}),
            ),
            "`template.plugin.wasm.permissions.http`: not supported by this version",
        ),
        (
            wasm("permissions", json!({"http": {"hosts": ["x"]}})),
            "`template.plugin.wasm.permissions.http`: not supported by this version",
        ),
        (
            wasm("module", json!({"file": "/modules/x.wasm"})),
            "a module in a file is `module: file:///ABSOLUTE/PATH`",
        ),
        (
            wasm("module", json!("./x.wasm")),
            "the path of a file must be absolute and start with `file://`",
        ),
        (
            wasm("env", json!({"A": "b"})),
            "expected a list, found a map (write it like `env: [{name: NAME, value: VALUE}]`)",
        ),
        (
            wasm(
                "env",
                json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            ),
            "`template.plugin.wasm.env[0].valueFrom`: not supported",
        ),
        (
            with(&|template| template["inputs"] = json!({"parameters": [{"name": "p"}]})),
            "`template.inputs.parameters.p`: the parameter has no value",
        ),
        (
            with(&|template| {
                template["inputs"] = json!({"artifacts": [{"name": "a", "path": "/in/a"}]})
            }),
            "the artifact was not supplied",
        ),
        (
            with(&|template| {
                let artifact = json!({"name": "a", "path": "/in/a", "raw": {"data": "x"}});
                template["inputs"] = json!({"artifacts": [artifact, artifact]});
            }),
            "`template.inputs.artifacts.a`: another artifact has the same name",
        ),
        (
            with(&|template| {
                let artifact = json!({"name": "a", "path": "/out/a", "s3": {"key": "a/../b"}});
                template["outputs"] = json!({"artifacts": [artifact]});
            }),
            "`template.outputs.artifacts.a`: the key `a/../b` has a segment `.` or `..`",
        ),
        (
            with(&|template| {
                template["inputs"] =
                    json!({"artifacts": [{"name": "a", "path": "/in/a", "gcs": {"key": "x"}}]})
            }),
            "artifacts of the kind `gcs` are not supported",
        ),
        (
            with(
                &|template| template["inputs"] = json!({"artifacts": [{"name": "a", "path": "/work/input.json", "raw": {"data": ""}}]}),
            ),
            "`/work/input.json` is reserved for the executor",
        ),
        (
            with(&|template| {
                let archive = json!({"tar": {"compressionLevel": 99}});
                template["outputs"] =
                    json!({"artifacts": [{"name": "a", "path": "/out/a", "archive": archive}]});
            }),
            "must be a level of gzip, -2 to 9, and not 99",
        ),
        (
            with(&|template| {
                template["outputs"] =
                    json!({"parameters": [{"name": "a", "valueFrom": {"jqFilter": "."}}]})
            }),
            "`jqFilter` does not work for plugin templates",
        ),
        (
            with(&|template| template["daemon"] = json!(true)),
            "`template.daemon`: does not work for plugin templates",
        ),
        (
            with(&|template| template["timeout"] = json!("soon")),
            "`template.timeout`: `soon` is not a duration",
        ),
    ];
    for (template, expected) in cases {
        assert_error(&executor.node(&template).await, expected);
    }
}

/// The message of a node is short, even if names in the module are long.
#[tokio::test]
async fn long_names_in_a_module_do_not_make_long_messages() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start_in(directory.path());
    let long = "x".repeat(90_000);
    let import = format!(
        r#"(module (import "env" "{long}" (global i32)) (memory (export "memory") 1) (func (export "_start")))"#
    );
    let export = format!(r#"(module (func (export "{long}")))"#);
    let call = format!(
        r#"(module (import "env" "{long}" (func $f)) (memory (export "memory") 1) (export "_start" (func $f)))"#
    );
    for (name, wat, phase) in [
        ("import", import, "Error"),
        ("export", export, "Error"),
        ("call", call, "Failed"),
    ] {
        let node = executor
            .node(&template_of_wat(directory.path(), name, &wat))
            .await;
        assert_eq!(node["phase"], phase);
        assert!(
            message(&node).len() <= 1024,
            "{} bytes",
            message(&node).len()
        );
    }
}

/// A timeout also ends a step that still waits for a slot.
#[tokio::test]
async fn a_timeout_includes_the_time_in_the_queue() {
    let config =
        json!({"sources": {"fileRoot": guests::directory()}, "capacity": {"steps": 1}}).to_string();
    let executor = Executor::start_with(Options {
        config: Some(config),
        ..Options::default()
    });
    assert_eq!(
        executor.node(&template("noop-command")).await["phase"],
        "Succeeded"
    );
    let spin = template("spin");
    let mut waiting = template("noop-command");
    waiting["timeout"] = json!("1s");
    waiting["activeDeadlineSeconds"] = json!(u64::MAX / 2);
    let spinning = executor.node(&spin);
    tokio::pin!(spinning);
    let node = tokio::select! {
        node = async { tokio::time::sleep(std::time::Duration::from_millis(300)).await; executor.node(&waiting).await } => node,
        node = &mut spinning => panic!("{node}"),
    };
    assert_error(&node, "timeout of 1s exceeded during queue");
}

#[tokio::test]
async fn malformed_requests_are_errors() {
    let executor = Executor::start();
    let post = async |body: String| {
        let HttpReply { status, body } = executor.post(body, &executor.token).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["node"].clone()
    };
    assert_error(
        &post("{\"template\":".to_owned()).await,
        "the request is not JSON: EOF while parsing a value at line 1 column 12",
    );
    assert_error(
        &post("{}".to_owned()).await,
        "the request has no `template`",
    );
    let mut large = template("noop-command");
    large["inputs"] = json!({"parameters": [{"name": "p", "value": "x".repeat(10 << 20)}]});
    assert_error(
        &post(request(&large).to_string()).await,
        "the request is larger than 4 MiB",
    );
    assert_eq!(
        executor.node(&template("noop-command")).await["phase"],
        "Succeeded",
        "the executor still runs steps"
    );
}

#[tokio::test]
async fn steps_without_files_run_when_the_scratch_directory_is_unwritable() {
    // A file in place of the directory. Root may write to every directory, so permissions cannot be
    // used.
    let file = tempfile::NamedTempFile::new().unwrap();
    let executor = Executor::start_with(Options {
        scratch: Some(file.path().to_owned()),
        ..Options::default()
    });
    let node = executor.node(&template("noop-work")).await;
    assert_error(
        &node,
        &format!(
            "the step's directory cannot be created in `{}`",
            file.path().display()
        ),
    );
    assert!(
        message(&node).contains("Ask the operator to choose another directory with --scratch-dir"),
        "{node}"
    );
    let node = executor.node(&template("noop-step")).await;
    assert_eq!(
        node["phase"], "Succeeded",
        "a step without files still runs: {node}"
    );
}

#[tokio::test]
async fn a_template_timeout_ends_the_step() {
    let executor = Executor::start();
    let mut template = template("spin");
    template["timeout"] = json!("1s");
    let node = executor.node(&template).await;
    assert_eq!(
        (&node["phase"], &node["outputs"]["exitCode"]),
        (&json!("Failed"), &json!("124")),
        "{node}"
    );
    assert!(
        message(&node).starts_with("timeout of 1s exceeded"),
        "{node}"
    );
}

#[tokio::test]
async fn two_inputs_at_one_path_are_an_error() {
    let executor = Executor::start();
    let with_paths = |first: &str, second: &str| {
        let mut template = template("word-count");
        template["inputs"] = json!({"artifacts": [
            {"name": "a", "path": first, "raw": {"data": "one"}},
            {"name": "b", "path": second, "raw": {"data": "one two"}},
        ]});
        template["plugin"]["wasm"]["args"] = json!([first, "/tmp/copy"]);
        template
    };
    for (first, second) in [
        ("/in/x", "/in/x"),
        ("/in/x", "/in/x/"),
        ("/in/x", "//in/./x"),
        ("/in/x", "in/x"),
    ] {
        assert_error(
            &executor.node(&with_paths(first, second)).await,
            "`template.inputs.artifacts.b.path`: the input artifact `a` has the same path /in/x",
        );
    }
    assert_error(
        &executor.node(&with_paths("/in/x", "/in/y/../x")).await,
        "is not a path of a file below `/`",
    );
    assert_error(
        &executor
            .node(&with_paths("/work//input.json", "/in/x"))
            .await,
        "is reserved for the executor",
    );
    let node = executor.node(&with_paths("/in/x", "/in/X")).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
}

#[tokio::test]
async fn a_template_cannot_declare_an_artifact_with_the_name_of_the_log() {
    let executor = Executor::start();
    let mut template = template("noop-command");
    template["outputs"] = json!({"artifacts": [{"name": "main-logs", "path": "/out/x"}]});
    assert_error(
        &executor.node(&template).await,
        "`template.outputs.artifacts.main-logs`: this name is reserved for the log of the step",
    );
}

#[tokio::test]
async fn headers_that_only_the_client_sets_are_errors_for_modules_and_artifacts() {
    let executor = Executor::start();
    for name in [
        "Host",
        "transfer-encoding",
        "Content-Length",
        "Expect",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Proxy-Authorization",
        "Proxy-Connection",
        "HTTP2-Settings",
    ] {
        let lower = name.to_ascii_lowercase();
        let module = json!({"http": {"url": "https://h/m.wasm", "headers": {name: "x"}}});
        let node = executor.node(&crate::template_of_module(module)).await;
        assert_eq!(node["phase"], "Error", "{name}: {node}");
        assert!(
            message(&node).contains(&format!("the header `{lower}`")),
            "{node}"
        );
        let http = json!({"url": "https://h/a", "headers": [{"name": name, "value": "x"}]});
        let mut input = template("word-count");
        input["inputs"] = json!({"artifacts": [{"name": "a", "path": "/in/a", "http": http}]});
        let mut output = template("word-count");
        output["outputs"] = json!({"artifacts": [{"name": "a", "path": "/out/a", "http": http}]});
        for template in [input, output] {
            let expected = format!("`http.headers` has the header `{lower}`");
            assert_error(&executor.node(&template).await, &expected);
        }
    }
}
