//! The log of `serve`: levels, the names and numbers in the lines of a step, refused calls, and the
//! output of modules.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, request, template};
use wasm_workflow_integration::{eventually, guests};

use crate::template_of_wat;

/// Starts an executor that allows the files in `directory`, with these flags.
fn start(directory: &Path, flags: &[&str]) -> Executor {
    Executor::start_with(Options {
        config: Some(json!({"sources": {"fileRoot": directory}}).to_string()),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        ..Options::default()
    })
}

/// WebAssembly text of a module that writes these bytes to standard output and standard error, and
/// then runs the code `then`.
fn printing(stdout: &[u8], stderr: &[u8], then: &str) -> String {
    let escaped = |bytes: &[u8]| {
        let escaped: Vec<String> = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        escaped.concat()
    };
    let out = 64;
    let err = 64 + stdout.len();
    let out_length = stdout.len();
    let err_length = stderr.len();
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 4)
          (data (i32.const {out}) "{}")
          (data (i32.const {err}) "{}")
          (func $print (param $fd i32) (param $at i32) (param $length i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $length))
            (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
          (func (export "_start")
            (call $print (i32.const 1) (i32.const {out}) (i32.const {out_length}))
            (call $print (i32.const 2) (i32.const {err}) (i32.const {err_length}))
            {then}))"#,
        escaped(stdout),
        escaped(stderr),
    )
}

/// The lines of a log in JSON.
fn json_lines(executor: &Executor) -> Vec<Value> {
    let log = executor.log();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    log.lines().map(parse).collect()
}

/// Waits for a number of lines that contain a text, and returns these lines.
async fn lines_with(executor: &Executor, text: &str, number: usize) -> Vec<String> {
    let lines = || -> Vec<String> {
        let log = executor.log();
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    };
    eventually(text, async || lines().len() >= number).await;
    lines()
}

#[tokio::test]
async fn json_lines_of_a_step_have_the_same_names_and_numbers_are_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(
        directory.path(),
        &["--log-format", "json", "--log-level", "debug"],
    );
    let mut step = template_of_wat(
        directory.path(),
        "prints",
        &printing(b"to stdout\n", b"to stderr\n", ""),
    );
    step["plugin"]["wasm"]["id"] = json!("wf.step(0)");
    assert_eq!(executor.node(&step).await["phase"], "Succeeded");
    lines_with(&executor, "step ended", 1).await;
    let lines = json_lines(&executor);
    let messages = [
        "resolved",
        "compiled",
        "stage ended",
        "module output",
        "step ended",
    ];
    let mut executions = BTreeSet::new();
    for message in messages {
        let found: Vec<&Value> = lines
            .iter()
            .filter(|line| line["message"] == message)
            .collect();
        assert!(!found.is_empty(), "{message}: {lines:?}");
        for line in found {
            let names = json!({
                "namespace": line["namespace"],
                "workflow": line["workflow"],
                "template": line["template"],
                "id": line["id"],
            });
            let expected =
                json!({"namespace": "argo", "workflow": "wf", "template": "t", "id": "wf.step(0)"});
            assert_eq!(names, expected, "{line}");
            executions.insert(line["execution"].to_string());
        }
    }
    assert_eq!(executions.len(), 1, "{executions:?}");
    let line = |message: &str| {
        lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap()
    };
    let ended = line("step ended");
    assert_eq!(
        (&ended["phase"], &ended["exit_code"], &ended["level"]),
        (&json!("Succeeded"), &json!(0), &json!("INFO"))
    );
    assert!(ended["microseconds"].is_u64(), "{ended}");
    assert!(
        ended["reason"].as_str().unwrap().starts_with("module "),
        "{ended}"
    );
    assert!(line("stage ended")["microseconds"].is_u64());
    assert!(line("compiled")["milliseconds"].is_u64());
}

/// The lines of a step that does not succeed have the names at the level `warn`, too.
#[tokio::test]
async fn json_lines_of_errors_have_the_names_and_the_phase() {
    let directory = tempfile::tempdir().unwrap();
    let flags = [
        "--log-format",
        "json",
        "--log-level",
        "warn,wasm_workflow_executor::app=info",
    ];
    let executor = start(directory.path(), &flags);
    let mut missing =
        json!({"name": "missing", "plugin": {"wasm": {"module": "file:///none.wasm"}}});
    missing["plugin"]["wasm"]["id"] = json!("a");
    let mut invalid = missing.clone();
    invalid["name"] = json!("invalid");
    invalid["plugin"]["wasm"]["limits"] = json!({"memory": "0"});
    for template in [&missing, &invalid] {
        assert_eq!(executor.node(template).await["phase"], "Error");
    }
    lines_with(&executor, "\"invalid\"", 1).await;
    for name in ["missing", "invalid"] {
        let lines = json_lines(&executor);
        let line = lines.iter().find(|line| line["template"] == name);
        let line = line.unwrap_or_else(|| panic!("{name}: {lines:?}"));
        assert_eq!(
            (&line["namespace"], &line["workflow"], &line["id"]),
            (&json!("argo"), &json!("wf"), &json!("a"))
        );
        assert_eq!(
            (&line["phase"], &line["level"]),
            (&json!("Error"), &json!("WARN"))
        );
    }
}

#[tokio::test]
async fn the_line_of_a_refused_request_has_the_names_and_the_phase() {
    let executor = start(&guests::directory(), &["--log-format", "json"]);
    let mut unknown = template("noop-command");
    unknown["plugin"]["wasm"]["unknown"] = json!(1);
    unknown["plugin"]["wasm"]["id"] = json!("b");
    assert_eq!(executor.node(&unknown).await["phase"], "Error");
    let line = lines_with(&executor, "request refused", 1).await;
    let line: Value = serde_json::from_str(&line[0]).unwrap();
    for (name, value) in [
        ("namespace", "argo"),
        ("workflow", "wf"),
        ("template", "noop-command"),
        ("id", "b"),
        ("phase", "Error"),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
}

/// A module that is compiled logs tens of thousands of lines of the compiler at `debug`.
#[tokio::test]
async fn a_level_is_for_this_program_and_a_filter_reaches_the_other_crates() {
    let is_own = |line: &Value| {
        line["target"]
            .as_str()
            .unwrap()
            .starts_with("wasm_workflow_")
    };
    let lines_at = async |level: &str| {
        let directory = tempfile::tempdir().unwrap();
        let executor = start(
            directory.path(),
            &["--log-format", "json", "--log-level", level],
        );
        let step = template_of_wat(directory.path(), "prints", &printing(b"x", b"", ""));
        assert_eq!(executor.node(&step).await["phase"], "Succeeded");
        lines_with(&executor, "step ended", 1).await;
        json_lines(&executor)
    };
    let lines = lines_at("debug").await;
    assert!(lines.len() < 100, "{}", lines.len());
    assert!(
        lines.iter().any(|line| line["level"] == "DEBUG"),
        "{lines:?}"
    );
    for line in &lines {
        assert!(is_own(line) || line["level"] == "WARN", "{line}");
    }
    let lines = lines_at("info,wasmtime=debug").await;
    let engine = lines.iter().filter(|line| {
        let target = line["target"].as_str().unwrap();
        target.starts_with("wasmtime")
    });
    assert!(engine.count() > 0, "{}", lines.len());
    assert!(
        lines
            .iter()
            .all(|line| !is_own(line) || line["level"] != "DEBUG"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn refused_tokens_are_logged_without_the_token_and_do_not_flood_the_log() {
    let executor = Executor::start();
    let body = request(&template("noop-command")).to_string();
    for number in 0..50 {
        let reply = executor
            .post(body.clone(), &format!("wr0ng-{number}"))
            .await;
        assert_eq!(reply.status, 403);
    }
    let lines = lines_with(&executor, "a call was refused", 1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN"), "{lines:?}");
    let lines = lines_with(&executor, "more calls were refused", 1).await;
    assert!(lines[0].contains("times=49"), "{lines:?}");
    assert!(!executor.log().contains("wr0ng"), "{}", executor.log());
}

/// Control characters are escaped, so a module cannot write lines of its own into the log.
#[tokio::test]
async fn the_output_of_a_module_is_in_the_log_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &[]);
    let stdout = b"first line\r\n\x1b[31mred\x1b[0m \"quoted\" \xff\x07\n\nno newline";
    let stderr = "käse\n".as_bytes();
    let mut step = template_of_wat(directory.path(), "prints", &printing(stdout, stderr, ""));
    step["plugin"]["wasm"]["id"] = json!("node-1");
    assert_eq!(executor.node(&step).await["phase"], "Succeeded");
    let lines = lines_with(&executor, "module output", 5).await;
    let expected = [
        r#"stream="stdout" line="first line""#,
        r#"stream="stderr" line="käse""#,
        r#"stream="stdout" line="\u{1b}[31mred\u{1b}[0m \"quoted\" �\u{7}""#,
        r#"stream="stdout" line="""#,
        r#"stream="stdout" line="no newline""#,
    ];
    for text in expected {
        let found = lines.iter().filter(|line| line.contains(text));
        assert_eq!(found.count(), 1, "{text}: {lines:#?}");
    }
    for line in &lines {
        assert!(
            line.contains(r#"namespace="argo" workflow="wf" template="t" id="node-1""#),
            "{line}"
        );
    }
    lines_with(&executor, "step ended", 1).await;
    let log = executor.log();
    let last = log.find("no newline").unwrap();
    assert!(last < log.find("step ended").unwrap(), "{log}");
}

#[tokio::test]
async fn the_output_of_a_module_is_in_the_log_while_the_module_runs() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &[]);
    let endless = printing(b"started\n", b"", "(loop $again (br $again))");
    let mut step = template_of_wat(directory.path(), "endless", &endless);
    step["plugin"]["wasm"]["limits"] = json!({"time": "1m"});
    let call = executor.post(request(&step).to_string(), &executor.token);
    let seen = lines_with(&executor, r#"line="started""#, 1);
    tokio::select! {
        reply = call => assert!(reply.body.contains("requeue"), "{reply:?}"),
        lines = seen => assert_eq!(lines.len(), 1),
    }
    lines_with(&executor, r#"line="started""#, 1).await;
    assert!(!executor.log().contains("step ended"), "{}", executor.log());
}

#[tokio::test]
async fn the_operator_can_switch_the_output_of_modules_off() {
    let directory = tempfile::tempdir().unwrap();
    let step = template_of_wat(directory.path(), "prints", &printing(b"said\n", b"", ""));
    let config = json!({
        "sources": {"fileRoot": directory.path()},
        "telemetry": {"log": {"moduleOutput": false}},
    });
    let by_key = Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::default()
    });
    let by_flag = start(directory.path(), &["--log-module-output", "false"]);
    let by_level = start(
        directory.path(),
        &[
            "--log-level",
            "info,wasm_workflow_executor::runtime::module_output=warn",
        ],
    );
    for executor in [by_key, by_flag, by_level] {
        assert_eq!(executor.node(&step).await["outputs"]["result"], "said");
        lines_with(&executor, "step ended", 1).await;
        assert!(
            !executor.log().contains("module output"),
            "{}",
            executor.log()
        );
    }
}

/// The command `run` prints the output of the module itself.
#[test]
fn run_does_not_log_the_output_of_the_module() {
    let cli = crate::cli::Cli::new();
    template_of_wat(
        cli.at("").as_path(),
        "prints",
        &printing(b"said\n", b"", ""),
    );
    let output = cli.run(&["run", "prints.wasm", "--log-level", "info"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.stdout, b"said\n");
    assert!(
        stderr.contains("step ended") && !stderr.contains("said"),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_output_of_a_module_cannot_fill_the_log() {
    let executor = Executor::start();
    let node = executor.node(&template("flood-stdout")).await;
    assert_eq!(node["phase"], "Failed");
    let lines = lines_with(&executor, "module output left out of the log", 1).await;
    let bytes = lines[0].split("bytes=").nth(1).unwrap();
    let bytes: u64 = bytes.split_whitespace().next().unwrap().parse().unwrap();
    assert!(bytes > 15 << 20, "{lines:?}");
    assert!(executor.log().len() < 200 << 10, "{}", executor.log().len());
}

/// A step that waited for the reader of standard error would never end.
#[tokio::test]
async fn steps_do_not_wait_for_a_reader_of_the_log_that_does_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let line = format!("{}\n", "x".repeat(1000));
    // Standard output would be in the results, whose rate is limited.
    let module = printing(b"", line.repeat(60).as_bytes(), "");
    let step = template_of_wat(directory.path(), "prints", &module);
    // The harness sees only the first lines. Nothing reads the others.
    let script = r#"exec "$0" "$@" 2> >(head -n 1 >&2; exec sleep 120)"#;
    let executor = Executor::start_with(Options {
        config: Some(json!({"sources": {"fileRoot": directory.path()}}).to_string()),
        wrapper: ["bash", "-c", script].map(str::to_owned).to_vec(),
        ..Options::default()
    });
    // 200 steps write twelve megabytes, more than the pipe and the queue take.
    for _ in 0..200 {
        let node = tokio::time::timeout(Duration::from_mins(1), executor.node(&step)).await;
        assert_eq!(node.expect("the step ends")["phase"], "Succeeded");
    }
}

/// Names and texts of a workflow and of a module, in the log of a step that fails.
#[tokio::test]
async fn names_and_messages_of_strangers_cannot_forge_lines() {
    let evil =
        "x\n2026-01-01T00:00:00Z  INFO forged\r\u{85}\u{2028}forged\u{1b}[2J\u{9b}31m\u{202e}";
    let directory = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let executor = start(
            directory.path(),
            &["--log-format", format, "--log-level", "debug"],
        );
        let mut templates = vec![template_of_wat(
            directory.path(),
            "prints",
            &printing(evil.as_bytes(), evil.as_bytes(), "unreachable"),
        )];
        for path in ["/in/a".to_owned(), evil.to_owned()] {
            let mut named = template("noop-command");
            named["name"] = json!(evil);
            named["id"] = json!(evil);
            named["inputs"] =
                json!({"artifacts": [{"name": evil, "path": path, "s3": {"key": evil}}]});
            templates.push(named);
        }
        for module in [
            format!("file:///{evil}"),
            evil.to_owned(),
            format!("https://h/{evil}"),
        ] {
            templates.push(crate::template_of_module(json!(module)));
        }
        let mut headers = template("noop-command");
        headers["plugin"]["wasm"] =
            json!({"module": {"http": {"url": "https://h/m", "headers": {evil: "x"}}}});
        templates.push(headers);
        for template in &templates {
            let node = executor.node(template).await;
            assert_ne!(node["phase"], "Succeeded", "{node}");
        }
        lines_with(&executor, "phase", templates.len()).await;
        let log = executor.log();
        let starts_line = |line: &&str| match format {
            "json" => line.starts_with("{\"timestamp\":\"20"),
            _ => line.starts_with("20") && !line.starts_with("2026-01-01T00:00:00Z"),
        };
        // Viewers split lines at these characters, too.
        let lines = log.split([
            '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
        ]);
        let forged: Vec<&str> = lines
            .filter(|line| !line.is_empty() && !starts_line(line))
            .collect();
        assert!(forged.is_empty(), "{forged:?}");
        let control = log
            .chars()
            .find(|c| *c != '\n' && (c.is_control() || *c == '\u{202e}'));
        assert_eq!(control, None, "{log}");
    }
}
