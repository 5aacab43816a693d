//! Strangers at the ports: callers without the token, and callers whose requests never end.
//!
//! The agent's calls and the probes must be answered meanwhile, and the memory must stay bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Exit, Options, request, template};
use wasm_workflow_integration::hostile::strangers::{BEGINNING, connect, flood, headers};
use wasm_workflow_integration::{eventually, guests};

use crate::template_of_wat;

/// Time after which the executor must have closed a connection that gets no further. The executor
/// allows ten seconds. The rest is for a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(40);

/// Starts the executor with this many file descriptors, as a container with a low limit does.
fn with_descriptors(number: usize) -> Executor {
    Executor::start_with(Options {
        wrapper: vec!["prlimit".to_owned(), format!("--nofile={number}:{number}")],
        ..Options::in_container()
    })
}

/// Whether the server has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Reads until the server closes the connection, or until it is silent for two seconds.
fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer)
        && read > 0
    {
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn assert_usable(executor: &Executor) {
    let usable = async {
        let ready = async || executor.probe("/readyz").await == 200;
        eventually("readiness", ready).await;
        assert_eq!(
            executor.node(&template("noop-command")).await["phase"],
            "Succeeded"
        );
        assert_eq!(executor.probe("/healthz").await, 200);
    };
    let usable = tokio::time::timeout(Duration::from_secs(30), usable).await;
    assert!(usable.is_ok(), "{}", executor.log());
}

/// Megabytes of resident memory beyond `before`.
fn growth(executor: &Executor, before: u64) -> u64 {
    executor.resident_kilobytes().saturating_sub(before) >> 10
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_complete_head_are_closed() {
    let executor = Executor::start_with(Options::in_container());
    assert_usable(&executor).await;
    let start = Instant::now();
    let mut silent = connect(&executor.url);
    let mut unfinished = connect(&executor.url);
    unfinished.write_all(BEGINNING.as_bytes()).unwrap();
    let mut slow = connect(&executor.url);
    slow.write_all(BEGINNING.as_bytes()).unwrap();
    let mut probe = connect(&executor.admin_url);
    probe.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let mut open = [true; 4];
    while open.contains(&true) {
        assert!(start.elapsed() < CLOSED_WITHIN, "{open:?} are open");
        // One byte of a header at a time.
        let _ = slow.write_all(b"a");
        for (open, stream) in
            open.iter_mut()
                .zip([&mut silent, &mut unfinished, &mut slow, &mut probe])
        {
            *open = *open && !is_closed(stream);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(start.elapsed() > Duration::from_secs(4), "not at once");
}

#[tokio::test]
async fn a_connection_with_the_token_may_be_idle_for_longer() {
    let executor = Executor::start_with(Options::in_container());
    let mut agent = connect(&executor.url);
    let body = request(&template("noop-command")).to_string();
    let call = format!(
        "{BEGINNING}Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        executor.token,
        body.len()
    );
    agent.write_all(call.as_bytes()).unwrap();
    assert!(read_all(&mut agent).contains("Succeeded"));
    tokio::time::sleep(Duration::from_secs(13)).await;
    agent.write_all(call.as_bytes()).unwrap();
    assert!(read_all(&mut agent).contains("Succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_heads_of_strangers_take_little_memory() {
    let executor = Executor::start_with(Options::in_container());
    assert_usable(&executor).await;
    let before = executor.resident_kilobytes();
    let head = format!("{BEGINNING}{}", headers(95, 4000));
    let held = flood(&executor.url, 1000, head.into_bytes()).await;
    let grown = growth(&executor, before);
    assert!(grown < 64, "{grown} MiB");
    assert_usable(&executor).await;
    drop(held);
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let executor = Executor::start_with(Options::in_container());
    for headers in [headers(200, 1), headers(1, 64 << 10)] {
        let mut stream = connect(&executor.url);
        let _ = stream.write_all(format!("{BEGINNING}{headers}\r\n").as_bytes());
        let answer = read_all(&mut stream);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_all_descriptors_delay_neither_calls_nor_probes() {
    let executor = with_descriptors(256);
    assert_usable(&executor).await;
    for url in [&executor.url, &executor.admin_url] {
        let held = flood(url, 400, BEGINNING.as_bytes().to_vec()).await;
        assert_usable(&executor).await;
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", executor.id()));
        let descriptors = descriptors.unwrap().count();
        assert!(descriptors < 200, "{descriptors} descriptors");
        drop(held);
    }
    assert_usable(&executor).await;
}

/// The program has twelve descriptors beyond those that it needs, and fewer than it may use for
/// connections.
#[tokio::test(flavor = "multi_thread")]
async fn ports_answer_when_the_process_has_no_free_descriptor() {
    let descriptors = |executor: &Executor| {
        let open = std::fs::read_dir(format!("/proc/{}/fd", executor.id()));
        open.unwrap().count()
    };
    let executor = with_descriptors(256);
    assert_usable(&executor).await;
    let needed = descriptors(&executor);
    let executor = with_descriptors(needed + 12);
    let ready = async || executor.probe("/readyz").await == 200;
    eventually("readiness", ready).await;
    let held = flood(&executor.url, 100, BEGINNING.as_bytes().to_vec()).await;
    // A step needs descriptors of its own, and a template of another plugin needs none.
    let answers = async {
        for _ in 0..5 {
            let foreign = json!({"plugin": {"hello": {}}});
            assert_eq!(executor.execute(&foreign).await, json!({}));
            assert_eq!(executor.probe("/healthz").await, 200);
        }
    };
    let answers = tokio::time::timeout(Duration::from_secs(30), answers).await;
    assert!(answers.is_ok(), "{}", executor.log());
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_take_little_memory_and_delay_no_call() {
    let executor = Executor::start_with(Options::in_container());
    assert_usable(&executor).await;
    let before = executor.resident_kilobytes();
    let mut call = format!(
        "{BEGINNING}Authorization: Bearer {}\r\nContent-Length: 4000000\r\n\r\n",
        executor.token
    )
    .into_bytes();
    call.resize(call.len() + (2 << 20), b' ');
    let held = flood(&executor.url, 200, call).await;
    let grown = growth(&executor, before);
    assert!(grown < 128, "{grown} MiB");
    assert_usable(&executor).await;
    drop(held);
}

/// Argo's agent must never see 404 or 5xx.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_gets_a_requeue() {
    let executor = Executor::start_with(Options::in_container());
    let authorised = format!("{BEGINNING}Authorization: Bearer {}\r\n", executor.token);
    let chunked = format!("{authorised}Transfer-Encoding: chunked\r\n\r\n");
    let sized = format!("{authorised}Content-Length: 1000\r\n\r\n");
    for (head, piece) in [(chunked, "1\r\n \r\n"), (sized, " ")] {
        let mut stream = connect(&executor.url);
        stream.write_all(head.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let start = Instant::now();
        let mut answer = String::new();
        while answer.is_empty() {
            assert!(start.elapsed() < CLOSED_WITHIN);
            let _ = stream.write_all(piece.as_bytes());
            answer = read_all(&mut stream);
        }
        assert!(
            answer.starts_with("HTTP/1.1 200 ")
                && answer.ends_with(r#"{"node":{},"requeue":"1s"}"#),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_caller_without_the_token_gets_one_answer() {
    let executor = Executor::start_with(Options::in_container());
    let mut stream = connect(&executor.url);
    let call = format!("{BEGINNING}Content-Length: 2\r\n\r\n{{}}");
    let _ = stream.write_all(call.repeat(100).as_bytes());
    let answers = read_all(&mut stream);
    assert_eq!(answers.matches("HTTP/1.1 403 ").count(), 1, "{answers}");
    assert!(answers.contains("connection: close"), "{answers}");
}

#[tokio::test]
async fn http_2_is_off() {
    let executor = Executor::start_with(Options::in_container());
    for url in [&executor.url, &executor.admin_url] {
        let mut stream = connect(url);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(preface).unwrap();
        let mut answer = [0; 9];
        let read = stream.read(&mut answer).unwrap_or_default();
        assert!(
            read == 0 || answer.starts_with(b"HTTP/1.1 "),
            "a frame of HTTP/2: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_delay_the_end_of_the_process() {
    let mut executor = Executor::start_with(Options::in_container());
    assert_usable(&executor).await;
    let held = flood(&executor.url, 50, BEGINNING.as_bytes().to_vec()).await;
    let Exit { code, took } = tokio::task::spawn_blocking(move || executor.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0));
    // The process waits five seconds for callers that do not read their replies.
    assert!(took < Duration::from_secs(4), "{took:?}");
    drop(held);
}

fn call_of(template: &Value, value: String) -> String {
    let mut template = template.clone();
    template["inputs"] = json!({"parameters": [{"name": "p", "value": value}]});
    request(&template).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_requests_take_bounded_memory_and_leave_room_for_other_templates() {
    // 32 MiB are for waiting requests.
    let config = json!({
        "sources": {"fileRoot": guests::directory()},
        "capacity": {"steps": 4, "memory": "256Mi"},
        "limits": {"memory": "16Mi"},
        "agent": {"wait": "10ms"},
    });
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::in_container()
    });
    assert_usable(&executor).await;
    let before = executor.resident_kilobytes();
    for number in 0..150 {
        let call = call_of(
            &template("spin"),
            format!("{number}{}", "0".repeat(1 << 20)),
        );
        let reply = executor.post(call, &executor.token).await;
        assert!(
            reply.status == 200 && reply.body.contains("requeue"),
            "{reply:?}"
        );
    }
    let grown = growth(&executor, before);
    assert!(grown < 96, "{grown} MiB");
    let reply = executor
        .post(
            request(&template("noop-command")).to_string(),
            &executor.token,
        )
        .await;
    assert_eq!(reply.status, 200);
    assert!(!reply.body.contains(r#""requeue":"15s""#), "{reply:?}");
}

/// Results of 256 KiB that no call fetches. At 16 MiB of results, no further step starts. All steps
/// succeed as soon as calls fetch the results.
#[tokio::test(flavor = "multi_thread")]
async fn results_that_no_call_fetches_hold_back_further_steps() {
    const PRINTS: &str = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 5)
        (data (i32.const 0) "\10\00\00\00\00\00\04\00")
        (func (export "_start")
            (memory.fill (i32.const 16) (i32.const 120) (i32.const 262144))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let directory = tempfile::tempdir().unwrap();
    let printing = template_of_wat(directory.path(), "prints", PRINTS);
    let config = json!({
        "sources": {"fileRoot": directory.path()},
        "capacity": {"steps": 2, "memory": "256Mi"},
        "limits": {"memory": "16Mi", "result": "1Mi"},
        "agent": {"wait": "1us", "patchRate": "1ms"},
    });
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::in_container()
    });
    eventually("readiness", async || executor.probe("/readyz").await == 200).await;
    let calls: Vec<_> = (0..150)
        .map(|number| call_of(&printing, number.to_string()))
        .collect();
    let mut waiting = Vec::new();
    for call in calls {
        let reply = executor.post(call.clone(), &executor.token).await;
        if reply.body.contains("requeue") {
            waiting.push(call);
        }
    }
    assert!(waiting.len() > 120, "{} results wait", waiting.len());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ran = executor.steps_run();
    assert!((10..110).contains(&ran), "{ran} steps ran");
    // A call before the end of the delay would start another execution.
    let fetch = async |call: String| {
        loop {
            let reply = executor.post(call.clone(), &executor.token).await;
            let reply: Value = serde_json::from_str(&reply.body).unwrap();
            let Some(delay) = reply["requeue"].as_str() else {
                return reply;
            };
            let seconds = delay.strip_suffix('s').unwrap().parse().unwrap();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    };
    for reply in futures::future::join_all(waiting.into_iter().map(fetch)).await {
        assert_eq!(reply["node"]["phase"], "Succeeded");
    }
}
