//! The HTTP side: who may call, what is not ours, health, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{self, Executor, Options, request, template};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::kubernetes::Kubernetes;

#[tokio::test]
async fn calls_need_the_right_token() {
    let executor = Executor::start();
    let body = request(&template("noop-command")).to_string();
    for token in ["", "wrong", &executor.token[1..]] {
        assert_eq!(executor.post(body.clone(), token).await.0, 403);
    }
    assert_eq!(executor.post(body, &executor.token).await.0, 200);
}

#[tokio::test]
async fn templates_of_other_plugins_get_an_empty_reply() {
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
async fn health_and_readiness_answer_200() {
    let executor = Executor::start();
    assert_eq!(executor.get("/healthz").await, 200);
    wasm_workflow_integration::eventually("readiness", async || {
        executor.get("/readyz").await == 200
    })
    .await;
}

#[tokio::test]
async fn sigterm_interrupts_steps_and_exits_with_0() {
    let mut executor = Executor::start();
    assert_eq!(
        executor.node(&template("noop-command")).await["phase"],
        "Succeeded"
    );
    let spinning = {
        let (url, token) = (executor.url.clone(), executor.token.clone());
        tokio::spawn(async move {
            let request = wasm_workflow_integration::http()
                .post(format!("{url}/api/v1/template.execute"))
                .bearer_auth(token);
            let response = request.body(request_for("spin")).send().await.unwrap();
            response.json::<Value>().await.unwrap()
        })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (code, took) = tokio::task::spawn_blocking(move || executor.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    let reply = spinning.await.unwrap();
    assert_eq!(
        reply,
        json!({"node": {}, "requeue": "1s"}),
        "whoever is there then runs it anew"
    );
}

/// Whatever a step does when the signal comes, the program ends in time, tells the caller to come again, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_at_every_stage_requeues_and_leaves_no_files() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let silent = axum::Router::new().fallback(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    });
    tokio::spawn(async move { axum::serve(listener, silent).await });
    let at = |path: &str| json!({"http": {"url": format!("http://{host}/{path}"), "digest": format!("sha256:{}", "0".repeat(64))}});
    let mut fetch = template("noop-command");
    fetch["plugin"]["wasm"]["module"] = at("module.wasm");
    let mut stage_in = template("cat");
    stage_in["inputs"] = json!({"artifacts": [{"name": "a", "path": "/a", "http": {"url": format!("http://{host}/a")}}]});
    let mut stage_out = template("work-artifacts");
    stage_out["outputs"] = json!({"artifacts": [{"name": "a", "path": "/out/a", "archive": {"none": {}}, "http": {"url": format!("http://{host}/b")}}]});
    stage_out["plugin"]["wasm"]["module"] =
        template("word-count")["plugin"]["wasm"]["module"].clone();
    stage_out["plugin"]["wasm"]["args"] = json!(["/in", "/out/a"]);
    stage_out["inputs"] =
        json!({"artifacts": [{"name": "in", "path": "/in", "raw": {"data": "x"}}]});
    // Takes seconds to compile.
    let modules = tempfile::tempdir().unwrap();
    for name in ["noop-command", "spin", "cat", "word-count"] {
        std::fs::copy(
            guests::guest(name),
            modules.path().join(format!("{name}.wasm")),
        )
        .unwrap();
    }
    std::fs::copy(
        guests::program("python.wasm"),
        modules.path().join("python.wasm"),
    )
    .unwrap();
    let here = |template: &Value| {
        let (there, here) = (
            guests::directory().display().to_string(),
            modules.path().display().to_string(),
        );
        serde_json::from_str::<Value>(&template.to_string().replace(&there, &here)).unwrap()
    };
    let mut compile = template("noop-command");
    compile["plugin"]["wasm"]["module"] = json!(format!(
        "file://{}/python.wasm",
        guests::directory().display()
    ));
    let config = json!({
        "sources": {"files": modules.path(), "insecure": [host]},
        "jobs": {"wait": "20s"},
        "limits": {"steps": 1},
    });
    for (stage, template, requests) in [
        ("fetch", fetch, 1),
        ("compile", compile, 0),
        ("stage in", stage_in, 1),
        ("queue", template("noop-command"), 0),
        ("run", template("spin"), 0),
        ("stage out", stage_out, 1),
    ] {
        let template = here(&template);
        asked.store(0, Ordering::SeqCst);
        let mut executor = Executor::start_with(Options {
            config: Some(config.to_string()),
            ..Options::default()
        });
        if stage == "queue" {
            let (url, token) = (executor.url.clone(), executor.token.clone());
            let body = request(&here(&self::template("spin"))).to_string();
            let client = wasm_workflow_integration::http();
            let call = client
                .post(format!("{url}/api/v1/template.execute"))
                .bearer_auth(token)
                .body(body);
            tokio::spawn(async move { call.send().await });
            let compiled = async || executor.log().contains("compiled");
            wasm_workflow_integration::eventually("the spinning one's start", compiled).await;
        }
        let (body, client) = (
            request(&template).to_string(),
            wasm_workflow_integration::http(),
        );
        let call = client
            .post(format!("{}/api/v1/template.execute", executor.url))
            .bearer_auth(&executor.token)
            .body(body);
        let call = tokio::spawn(async move { call.send().await.unwrap().text().await.unwrap() });
        wasm_workflow_integration::eventually(stage, async || {
            asked.load(Ordering::SeqCst) >= requests
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let scratch = executor.directory().join("scratch");
        let (mut executor, code, took) = tokio::task::spawn_blocking(move || {
            let (code, took) = executor.terminate();
            (executor, code, took)
        })
        .await
        .unwrap();
        assert!(
            code == Some(0) && took < Duration::from_secs(8),
            "{stage}: {code:?} after {took:?}: {}",
            executor.log()
        );
        assert_eq!(
            call.await.unwrap(),
            r#"{"node":{},"requeue":"1s"}"#,
            "{stage}"
        );
        let steps = std::fs::read_dir(&scratch).into_iter().flatten().flatten();
        let steps = steps.flat_map(|process| {
            std::fs::read_dir(process.path())
                .into_iter()
                .flatten()
                .flatten()
        });
        let left: Vec<_> = steps
            .map(|step| step.path())
            .filter(|path| path.is_dir())
            .collect();
        assert!(left.is_empty(), "{stage}: {left:?} are left");
        executor.start_again();
        let again = executor.node(&here(&self::template("noop-command"))).await;
        assert_eq!(
            again["phase"], "Succeeded",
            "{stage}, and then again: {again}"
        );
    }
}

fn request_for(guest: &str) -> String {
    request(&template(guest)).to_string()
}

/// A step outlives the call for it, and the next call with the same bytes gets it.
#[tokio::test]
async fn a_step_continues_after_its_call_ends() {
    let executor = Executor::start_with(Options {
        config: Some(one_at_a_time()),
        ..Options::default()
    });
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
    assert_eq!(
        (status, text.as_str()),
        (200, r#"{"node":{},"requeue":"1s"}"#)
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let node = executor.node(&template).await;
    assert!(
        node["message"]
            .as_str()
            .unwrap()
            .contains("timeout of 2s exceeded"),
        "{node}"
    );
    let ran = || executor.steps_run();
    wasm_workflow_integration::eventually("the step's line", async || ran() > 0).await;
    assert_eq!(ran(), 1, "it ran once: {}", executor.log());
}

/// What nobody asks for any more is stopped, and its place is free for others.
#[tokio::test]
async fn an_orphaned_step_is_cancelled() {
    let executor = Executor::start_with(Options {
        config: Some(one_at_a_time()),
        ..Options::default()
    });
    let (_, text) = executor
        .post(
            executor::request(&template("spin")).to_string(),
            &executor.token,
        )
        .await;
    assert!(text.contains("requeue"), "{text}");
    // With one runner, this waits until the spinning guest is gone.
    let node = tokio::time::timeout(
        Duration::from_mins(1),
        executor.node(&template("noop-command")),
    )
    .await;
    assert_eq!(
        node.expect("the runner is free again")["phase"],
        "Succeeded"
    );
    assert!(
        executor.log().contains("nobody asked for a step any more"),
        "{}",
        executor.log()
    );
}

/// However many long steps there are of one template, those of another begin at once; and a call for what cannot begin waits for next to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn long_steps_of_one_template_leave_slots_for_others() {
    // Memory for four at once, and places for many more.
    let limits = json!({"steps": 16, "memory": "512Mi", "stepsMemory": "2Gi"});
    let config = json!({"sources": {"files": guests::directory()}, "limits": limits});
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::default()
    });
    let mut long = template("spin");
    long["plugin"]["wasm"]["limits"] = json!({"time": "5m"});
    let calls = (0..100).map(|number| {
        long["plugin"]["wasm"]["args"] = json!([number.to_string()]);
        executor.post(executor::request(&long).to_string(), &executor.token)
    });
    for (status, text) in futures::future::join_all(calls).await {
        assert!(status == 200 && text.contains("requeue"), "{text}");
    }
    for _ in 0..3 {
        assert_eq!(
            executor.execute(&template("noop-command")).await["node"]["phase"],
            "Succeeded",
            "in its first call"
        );
    }
}

/// Where the Workflow can be read, steps that it waits for no more are stopped. A handler on exit is none of those.
#[tokio::test(flavor = "multi_thread")]
async fn steps_of_stopped_workflows_are_cancelled_except_exit_handlers() {
    let kubernetes = Kubernetes::start().await;
    let directory = tempfile::tempdir().unwrap();
    let config = json!({"sources": {"files": guests::directory()}, "jobs": {"wait": "1s", "watch": "500ms"}});
    let kubeconfig = kubernetes.kubeconfig(directory.path());
    let flags = vec!["--kubeconfig".to_owned(), kubeconfig.display().to_string()];
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        flags,
        ..Options::default()
    });
    let request = |name: &str| {
        let mut template = template("spin");
        template["name"] = json!(name);
        executor::request(&template).to_string()
    };
    let node = |template: &str, phase: &str| json!({"type": "Plugin", "templateName": template, "phase": phase});
    let workflow = |main: &str| json!({"spec": {"shutdown": "Stop"}, "status": {"phase": "Running", "nodes": {"1": node("main", main), "2": node("cleanup", "Pending")}}});
    kubernetes.put("workflows/wf", workflow("Pending"));
    for name in ["main", "cleanup"] {
        let (_, text) = executor.post(request(name), &executor.token).await;
        assert!(text.contains("requeue"), "{text}");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        !executor.log().contains("a step is stopped"),
        "both are wanted: {}",
        executor.log()
    );
    kubernetes.forbid("workflows/wf");
    kubernetes.put("workflows/wf", workflow("Failed"));
    wasm_workflow_integration::eventually("a word about the permission", async || {
        executor
            .log()
            .contains("steps of workflows that are stopped go on until their limits end them")
    })
    .await;
    assert!(
        !executor.log().contains("a step is stopped"),
        "{}",
        executor.log()
    );
    // The same with the permission, for another executor.
    kubernetes.allow("workflows/wf");
    let flags = vec!["--kubeconfig".to_owned(), kubeconfig.display().to_string()];
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        flags,
        ..Options::default()
    });
    for name in ["main", "cleanup"] {
        executor.post(request(name), &executor.token).await;
    }
    wasm_workflow_integration::eventually("the end of one", async || {
        executor.log().contains("a step is stopped")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = |template: &str| {
        executor.log().contains(&format!(
            "template=\"{template}\" why=\"the workflow waits for no step"
        ))
    };
    assert!(stopped("main") && !stopped("cleanup"), "{}", executor.log());
    let (_, text) = executor.post(request("main"), &executor.token).await;
    assert!(
        text.contains("the step was cancelled"),
        "a later attempt may have the same bytes: {text}"
    );
    // Over: whoever asks is told nothing, so that Argo keeps what it knows of the node, and asks no more.
    kubernetes.put("workflows/wf", json!({"status": {"phase": "Failed"}}));
    let over = async || executor.log().contains("the workflow is over");
    wasm_workflow_integration::eventually("the end of the other", over).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, text) = executor.post(request("cleanup"), &executor.token).await;
    assert_eq!(text, r#"{"node":{}}"#);
}

fn one_at_a_time() -> String {
    json!({"sources": {"files": guests::directory()}, "limits": {"steps": 1}, "jobs": {"wait": "1s", "orphan": "2s"}})
        .to_string()
}

/// Misconfigurations are said before a port is bound, with the exit code for usage.
#[test]
fn misconfiguration_exits_with_the_usage_code() {
    let run = |flags: &[&str]| {
        let output = std::process::Command::new(executor::program())
            .arg("serve")
            .args(flags)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let cases: [(&[&str], &str); 6] = [
        (&["--no-token"], "--no-token needs a loopback address"),
        (
            &["--token-file", "/nonexistent"],
            "the token file `/nonexistent` cannot be read",
        ),
        (
            &["--bind", "localhost:7999"],
            "it must be an address and a port",
        ),
        (
            &["--token-file", "/dev/null"],
            "the token file `/dev/null` is empty",
        ),
        (
            &["--config", "/nonexistent"],
            "the configuration file `/nonexistent` cannot be read",
        ),
        (
            &[
                "--log-level",
                "a=b=c",
                "--no-token",
                "--bind",
                "127.0.0.1:0",
            ],
            "is not a log filter",
        ),
    ];
    for (flags, expected) in cases {
        let (code, stderr) = run(flags);
        assert_eq!(code, Some(64), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
