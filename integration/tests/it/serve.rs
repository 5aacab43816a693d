//! The command `serve`: authentication, templates of other plugins, health, cancellation and
//! shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{
    self, Executor, Exit, HttpReply, Options, request, template,
};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::kubernetes::Kubernetes;

#[tokio::test]
async fn calls_need_the_right_token() {
    let executor = Executor::start();
    let body = request(&template("noop-command")).to_string();
    for token in ["", "wrong", &executor.token[1..]] {
        assert_eq!(executor.post(body.clone(), token).await.status, 403);
    }
    assert_eq!(executor.post(body, &executor.token).await.status, 200);
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
    assert_eq!(executor.probe("/healthz").await, 200);
    wasm_workflow_integration::eventually("readiness", async || {
        executor.probe("/readyz").await == 200
    })
    .await;
}

#[tokio::test]
async fn probes_are_not_on_the_port_of_the_agent() {
    let executor = Executor::start();
    let client = wasm_workflow_integration::http();
    for path in ["/healthz", "/readyz"] {
        let answer = client.get(format!("{}{path}", executor.url)).send().await;
        assert_eq!(answer.unwrap().status(), 404, "{path}");
    }
    let call = format!("{}/api/v1/template.execute", executor.admin_url);
    let answer = client.post(call).send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn sigterm_interrupts_steps_and_exits_with_0() {
    let mut executor = Executor::start();
    assert_eq!(
        executor.node(&template("noop-command")).await["phase"],
        "Succeeded"
    );
    let spinning = call_in_background(&executor, &template("spin"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let Exit { code, took } = tokio::task::spawn_blocking(move || executor.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    let reply: Value = serde_json::from_str(&spinning.await.unwrap()).unwrap();
    assert_eq!(
        reply,
        json!({"node": {}, "requeue": "1s"}),
        "the agent calls the next process, which runs the step again"
    );
}

/// Calls the executor in a task, which returns the body of the reply.
fn call_in_background(executor: &Executor, template: &Value) -> tokio::task::JoinHandle<String> {
    let call = wasm_workflow_integration::http()
        .post(format!("{}/api/v1/template.execute", executor.url))
        .bearer_auth(&executor.token)
        .body(request(template).to_string());
    tokio::spawn(async move { call.send().await.unwrap().text().await.unwrap() })
}

/// In each stage of a step, SIGTERM ends the program in time. The reply asks for a requeue, and no
/// files are left.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_at_every_stage_requeues_and_leaves_no_files() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let silent = axum::Router::new().fallback(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    });
    let host = wasm_workflow_integration::serve(silent).await;
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
    // One of these modules is CPython, which takes seconds to compile.
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
        let original = guests::directory().display().to_string();
        let copy = modules.path().display().to_string();
        serde_json::from_str::<Value>(&template.to_string().replace(&original, &copy)).unwrap()
    };
    let mut compile = template("noop-command");
    compile["plugin"]["wasm"]["module"] = json!(format!(
        "file://{}/python.wasm",
        guests::directory().display()
    ));
    let config = json!({
        "sources": {"fileRoot": modules.path(), "insecure": [host]},
        "agent": {"wait": "20s"},
        "capacity": {"steps": 1},
    });
    for (stage, template, expected_requests) in [
        ("fetch", fetch, 1),
        ("compile", compile, 0),
        ("stage in", stage_in, 1),
        ("queue", template("noop-command"), 0),
        ("run", template("spin"), 0),
        ("stage out", stage_out, 1),
    ] {
        let template = here(&template);
        requests.store(0, Ordering::SeqCst);
        let mut executor = Executor::start_with(Options {
            config: Some(config.to_string()),
            ..Options::default()
        });
        if stage == "queue" {
            // The only slot is occupied by a spinning step.
            drop(call_in_background(
                &executor,
                &here(&self::template("spin")),
            ));
            let compiled = async || executor.log().contains("compiled");
            wasm_workflow_integration::eventually("the start of the spinning step", compiled).await;
        }
        let call = call_in_background(&executor, &template);
        wasm_workflow_integration::eventually(stage, async || {
            requests.load(Ordering::SeqCst) >= expected_requests
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let scratch = executor.directory().join("scratch");
        let (mut executor, exit) = tokio::task::spawn_blocking(move || {
            let exit = executor.terminate();
            (executor, exit)
        })
        .await
        .unwrap();
        let Exit { code, took } = exit;
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
        executor.restart();
        let again = executor.node(&here(&self::template("noop-command"))).await;
        assert_eq!(
            again["phase"], "Succeeded",
            "a step after the restart, {stage}: {again}"
        );
    }
}

/// A step continues after its call has ended. The next call with the same body adopts the step.
#[tokio::test]
async fn a_step_continues_after_its_call_ends() {
    let executor = Executor::start_with(Options {
        config: Some(one_at_a_time()),
        ..Options::default()
    });
    let mut template = template("spin");
    template["timeout"] = json!("2s");
    let body = executor::request(&template).to_string();
    // The caller disconnects after the step has started.
    let started = async || executor.log().contains("resolved reference=");
    tokio::select! {
        _ = executor.post(body.clone(), &executor.token) => panic!("the step ended"),
        () = wasm_workflow_integration::eventually("the start of the step", started) => {}
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let HttpReply { status, body } = executor.post(body, &executor.token).await;
    // No earlier reply told the agent that the step runs.
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"node":{"phase":"Running"},"requeue":"1s"}"#)
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
    wasm_workflow_integration::eventually("the log line of the step", async || {
        executor.steps_run() > 0
    })
    .await;
    assert_eq!(
        executor.steps_run(),
        1,
        "the step ran once: {}",
        executor.log()
    );
}

/// A step without further calls is cancelled after the orphan timeout, and its slot becomes free.
#[tokio::test]
async fn an_orphaned_step_is_cancelled() {
    let executor = Executor::start_with(Options {
        config: Some(one_at_a_time()),
        ..Options::default()
    });
    let reply = executor
        .post(
            executor::request(&template("spin")).to_string(),
            &executor.token,
        )
        .await;
    assert!(reply.body.contains("requeue"), "{reply:?}");
    // There is only one slot, so this step waits until the spinning step is cancelled.
    let node = tokio::time::timeout(
        Duration::from_mins(1),
        executor.node(&template("noop-command")),
    )
    .await;
    assert_eq!(node.expect("the slot is free again")["phase"], "Succeeded");
    assert!(
        executor
            .log()
            .contains("step cancelled: no call of the agent asked for the step"),
        "{}",
        executor.log()
    );
}

/// Long steps of one template leave slots and memory for steps of other templates, which start at
/// once. A call for a step that cannot start is answered soon.
#[tokio::test(flavor = "multi_thread")]
async fn long_steps_of_one_template_leave_slots_for_others() {
    // There is memory for four of these steps, and there are many more slots.
    let capacity = json!({"steps": 16, "memory": "2Gi"});
    let config = json!({"sources": {"fileRoot": guests::directory()}, "capacity": capacity, "limits": {"memory": "512Mi"}});
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
    for reply in futures::future::join_all(calls).await {
        assert!(
            reply.status == 200 && reply.body.contains("requeue"),
            "{reply:?}"
        );
    }
    for _ in 0..3 {
        assert_eq!(
            executor.execute(&template("noop-command")).await["node"]["phase"],
            "Succeeded",
            "the first call returns the result"
        );
    }
}

/// If the executor may read the Workflow, it cancels the steps for which the Workflow no longer
/// waits. Steps of an exit handler continue until the Workflow has ended.
#[tokio::test(flavor = "multi_thread")]
async fn steps_of_stopped_workflows_are_cancelled_except_exit_handlers() {
    let kubernetes = Kubernetes::start().await;
    let directory = tempfile::tempdir().unwrap();
    let config = json!({"sources": {"fileRoot": guests::directory()}, "agent": {"wait": "1s", "workflowPollInterval": "500ms"}});
    let start = || Executor::with_config(&config, kubernetes.flags(directory.path()));
    let executor = start();
    let request = |name: &str| {
        let mut template = template("spin");
        template["name"] = json!(name);
        executor::request(&template).to_string()
    };
    let node = |template: &str, phase: &str| json!({"type": "Plugin", "templateName": template, "phase": phase});
    let mut cleanup = node("cleanup", "Pending");
    cleanup["displayName"] = json!("wf.onExit");
    // The controller has not seen yet that a user stopped the Workflow.
    let shutdown = |main: &str| if main == "Pending" { "" } else { "Stop" };
    let workflow = |main: &str| json!({"spec": {"shutdown": shutdown(main)}, "status": {"phase": "Running", "nodes": {"1": node("main", main), "2": cleanup}}});
    kubernetes.put("workflows/wf", workflow("Pending"));
    for name in ["main", "cleanup"] {
        let reply = executor.post(request(name), &executor.token).await;
        assert!(reply.body.contains("requeue"), "{reply:?}");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        !executor.log().contains("step cancelled"),
        "the Workflow waits for both steps: {}",
        executor.log()
    );
    kubernetes.forbid("workflows/wf");
    kubernetes.put("workflows/wf", workflow("Failed"));
    wasm_workflow_integration::eventually("a warning about the permission", async || {
        executor
            .log()
            .contains("its steps continue until their limits end them")
    })
    .await;
    assert!(
        !executor.log().contains("step cancelled"),
        "{}",
        executor.log()
    );
    // A new executor with the permission.
    kubernetes.allow("workflows/wf");
    let executor = start();
    for name in ["main", "cleanup"] {
        executor.post(request(name), &executor.token).await;
    }
    wasm_workflow_integration::eventually("the cancellation of a step", async || {
        executor.log().contains("step cancelled")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = |template: &str| {
        executor.log().contains(&format!(
            "template=\"{template}\" reason=\"the workflow was stopped"
        ))
    };
    assert!(stopped("main") && !stopped("cleanup"), "{}", executor.log());
    let reply = executor.post(request("main"), &executor.token).await;
    assert!(
        reply
            .body
            .contains(r#""phase":"Failed","message":"the workflow was stopped""#),
        "{reply:?}"
    );
    // The Workflow has ended. The reply is empty, so that Argo does not change the node, and the
    // agent does not call again.
    kubernetes.put("workflows/wf", json!({"status": {"phase": "Failed"}}));
    let ended = async || executor.log().contains("the workflow has ended");
    wasm_workflow_integration::eventually("the cancellation of the other step", ended).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reply = executor.post(request("cleanup"), &executor.token).await;
    assert_eq!(reply.body, r#"{"node":{}}"#);
}

/// Configuration with one slot, short calls and a short orphan timeout.
fn one_at_a_time() -> String {
    json!({"sources": {"fileRoot": guests::directory()}, "capacity": {"steps": 1}, "agent": {"wait": "1s", "orphanTimeout": "2s"}})
        .to_string()
}

/// A wrong configuration ends the program before it binds a port. The exit code is the one for
/// usage.
#[test]
fn misconfiguration_exits_with_the_usage_code() {
    let run = |flags: &[&str]| {
        std::process::Command::new(executor::program())
            .arg("serve")
            .args(flags)
            .output()
            .unwrap()
    };
    let cases: [(&[&str], &str); 7] = [
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
            &["--admin-bind", "localhost:7999"],
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
        let output = run(flags);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
