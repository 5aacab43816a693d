//! The HTTP side: who may call, what is not ours, health, and the end.

use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{self, Executor, Options, request, template};

#[tokio::test]
async fn only_the_token_opens() {
    let executor = Executor::start();
    let body = request(&template("noop-command")).to_string();
    for token in ["", "wrong", &executor.token[1..]] {
        assert_eq!(executor.post(body.clone(), token).await.0, 403);
    }
    assert_eq!(executor.post(body, &executor.token).await.0, 200);
}

#[tokio::test]
async fn other_plugins_templates_are_not_ours() {
    let executor = Executor::start();
    let foreign = [
        json!({"plugin": {"hello": {}}}),
        json!({"plugin": {"hello": {"modul": 1}}, "daemon": true, "timeout": "never"}),
        json!({"container": {"image": "x"}}),
        json!({"plugin": null}),
        json!("nonsense"),
    ];
    for template in foreign {
        assert_eq!(executor.execute(&template).await, json!({}), "{template}");
    }
}

#[tokio::test]
async fn health_and_readiness() {
    let executor = Executor::start();
    assert_eq!(executor.get("/healthz").await, 200);
    wasm_workflow_integration::eventually("readiness", async || executor.get("/readyz").await == 200).await;
}

#[tokio::test]
async fn sigterm_interrupts_and_exits_0() {
    let mut executor = Executor::start();
    assert_eq!(executor.node(&template("noop-command")).await["phase"], "Succeeded");
    let spinning = {
        let (url, token) = (executor.url.clone(), executor.token.clone());
        tokio::spawn(async move {
            let request =
                wasm_workflow_integration::http().post(format!("{url}/api/v1/template.execute")).bearer_auth(token);
            let response = request.body(request_for("spin")).send().await.unwrap();
            response.json::<Value>().await.unwrap()
        })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (code, took) = tokio::task::spawn_blocking(move || executor.terminate()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    let reply = spinning.await.unwrap();
    assert_eq!(reply["node"]["phase"], "Error", "{reply}");
    assert!(reply["node"]["message"].as_str().unwrap().starts_with("the step was cancelled"), "{reply}");
}

fn request_for(guest: &str) -> String {
    request(&template(guest)).to_string()
}

/// A step outlives the call for it, and the next call with the same bytes gets it.
#[tokio::test]
async fn a_step_outlives_its_call() {
    let executor = Executor::start_with(Options { config: Some(one_at_a_time()), ..Options::default() });
    let mut template = template("spin");
    template["timeout"] = json!("2s");
    let body = executor::request(&template).to_string();
    // The caller leaves, and not before the step is there.
    let started = async || executor.log().contains("resolved reference=");
    tokio::select! {
        _ = executor.post(body.clone(), &executor.token) => panic!("it spins"),
        () = wasm_workflow_integration::eventually("the step's start", started) => {}
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (status, text) = executor.post(body, &executor.token).await;
    assert_eq!((status, text.as_str()), (200, r#"{"node":{},"requeue":"1s"}"#));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let node = executor.node(&template).await;
    assert!(node["message"].as_str().unwrap().contains("timeout of 2s exceeded"), "{node}");
    let ran = || executor.log().matches("pipeline: step ").count();
    wasm_workflow_integration::eventually("the step's line", async || ran() > 0).await;
    assert_eq!(ran(), 1, "it ran once: {}", executor.log());
}

/// What nobody asks for any more is stopped, and its place is free for others.
#[tokio::test]
async fn a_step_that_nobody_asks_for_ends() {
    let executor = Executor::start_with(Options { config: Some(one_at_a_time()), ..Options::default() });
    let (_, text) = executor.post(executor::request(&template("spin")).to_string(), &executor.token).await;
    assert!(text.contains("requeue"), "{text}");
    // With one runner, this waits until the spinning guest is gone.
    let node = tokio::time::timeout(Duration::from_mins(1), executor.node(&template("noop-command"))).await;
    assert_eq!(node.expect("the runner is free again")["phase"], "Succeeded");
    assert!(executor.log().contains("nobody asked for a step any more"), "{}", executor.log());
}

fn one_at_a_time() -> String {
    json!({"sources": {"files": wasm_workflow_integration::guests::directory()}, "limits": {"steps": 1}, "jobs": {"wait": "1s", "orphan": "2s"}}).to_string()
}

/// Misconfigurations are said before a port is bound, with the exit code for usage.
#[test]
fn misconfiguration_is_usage() {
    let run = |flags: &[&str]| {
        let output = std::process::Command::new(executor::program()).arg("serve").args(flags).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let cases: [(&[&str], &str); 6] = [
        (&["--no-token"], "--no-token needs a loopback address"),
        (&["--token-file", "/nonexistent"], "the token file `/nonexistent` cannot be read"),
        (&["--bind", "localhost:7999"], "it must be an address and a port"),
        (&["--token-file", "/dev/null"], "the token file `/dev/null` is empty"),
        (&["--config", "/nonexistent"], "the configuration file `/nonexistent` cannot be read"),
        (&["--log-level", "a=b=c", "--no-token", "--bind", "127.0.0.1:0"], "is not a log filter"),
    ];
    for (flags, expected) in cases {
        let (code, stderr) = run(flags);
        assert_eq!(code, Some(64), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
