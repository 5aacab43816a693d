//! Steps that the test double of Argo's agent runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::agent::{Agent, Options, Plugin, Status};
use wasm_workflow_integration::eventually;
use wasm_workflow_integration::executor::{self, Executor, template};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::task_set_server::TaskSetServer;

fn options() -> Options {
    Options {
        patch_rate: Duration::from_millis(100),
        backoff: Duration::from_millis(50),
        ..Options::default()
    }
}

fn agent(executor: &Executor, options: Options) -> Agent {
    Agent::new(
        vec![Plugin {
            url: executor.url.clone(),
            token: executor.token.clone(),
        }],
        options,
    )
}

fn metadata() -> Value {
    json!({"metadata": {"name": "wf", "namespace": "argo", "uid": "5d3c7f6e-0000-4000-8000-000000000002"}})
}

/// Checks that exactly `steps` steps ran. Log lines arrive a little later than replies.
async fn assert_steps_run(executor: &Executor, steps: usize) {
    eventually("the log line of the last step", async || {
        executor.steps_run() >= steps
    })
    .await;
    assert_eq!(executor.steps_run(), steps, "no step ran twice");
}

fn ferris() -> Value {
    let mut template = template("ferris-says");
    template["inputs"] = json!({"parameters": [{"name": "text", "value": "Hello"}]});
    template
}

#[tokio::test]
async fn nodes_of_every_kind_end_with_the_expected_phase() {
    let executor = Executor::start();
    let mut greeting = template("greeting");
    greeting["inputs"] = json!({"parameters": [{"name": "name", "value": "Ada"}]});
    let mut misspelt = template("noop-step");
    misspelt["plugin"]["wasm"]["modul"] = json!("x");
    let kinds = [
        (ferris(), "Succeeded"),
        (greeting, "Succeeded"),
        (template("noop-command"), "Succeeded"),
        (template("trap"), "Failed"),
        (misspelt, "Error"),
        // A template of another plugin, which this agent does not have.
        (json!({"name": "x", "plugin": {"hello": {}}}), "Failed"),
    ];
    let tasks: BTreeMap<String, Value> = (0..120)
        .map(|number| {
            (
                format!("wf-{number}"),
                kinds[number % kinds.len()].0.clone(),
            )
        })
        .collect();
    let status = agent(&executor, options()).run(&metadata(), &tasks).await;
    assert!(status.refused.is_empty(), "{:?}", status.refused);
    assert_eq!(status.nodes.len(), tasks.len(), "no node is lost");
    for number in 0..120 {
        let node = &status.nodes[&format!("wf-{number}")];
        assert_eq!(node["phase"], kinds[number % kinds.len()].1, "{node}");
    }
    // Only the first four kinds run. There are 20 nodes of each kind.
    assert_steps_run(&executor, 4 * 20).await;
}

#[tokio::test]
async fn a_wrong_token_fails_the_node_with_the_executors_message() {
    let executor = Executor::start();
    let agent = Agent::new(
        vec![Plugin {
            url: executor.url.clone(),
            token: "wrong".to_owned(),
        }],
        options(),
    );
    let status = agent
        .run(&metadata(), &BTreeMap::from([("a".to_owned(), ferris())]))
        .await;
    assert_eq!(
        status.nodes["a"],
        json!({"phase": "Failed", "message": "403 Forbidden: the token is missing or wrong\n"})
    );
}

/// A restarted agent repeats the calls whose results were not patched.
#[tokio::test]
async fn a_restarted_agent_repeats_calls_and_loses_no_node() {
    let executor = Executor::start();
    let tasks: BTreeMap<String, Value> = (0..30)
        .map(|number| (format!("wf-{number}"), ferris()))
        .collect();
    let options = Options {
        first_lives: vec![Duration::from_millis(60)],
        ..options()
    };
    let status: Status = agent(&executor, options).run(&metadata(), &tasks).await;
    assert_eq!(status.nodes.len(), 30);
    assert!(
        status
            .nodes
            .values()
            .all(|node| node["phase"] == "Succeeded"),
        "{:?}",
        status.nodes
    );
    assert!(
        status.calls.values().any(|calls| *calls > 1),
        "all calls had ended before the restart"
    );
}

/// A step continues when its call ends and when the agent restarts. The restarted agent repeats the
/// calls, and they adopt the running steps. There are more long steps than workers and slots.
#[tokio::test]
async fn long_steps_are_adopted_after_an_agent_restart_and_do_not_delay_short_ones() {
    let config = json!({"sources": {"fileRoot": wasm_workflow_integration::guests::directory()}, "agent": {"wait": "300ms"}});
    let executor = Executor::start_with(executor::Options {
        config: Some(config.to_string()),
        ..executor::Options::default()
    });
    let mut long = template("spin");
    long["plugin"]["wasm"]["limits"] = json!({"time": "3s"});
    // A restarted agent does not know the requeue delay, and calls too early. Such a call adopts a
    // running step only if the template has an `id`.
    let named = |number: usize| {
        let mut long = long.clone();
        long["plugin"]["wasm"]["id"] = json!(format!("wf-{number}/0"));
        (format!("wf-{number}"), long)
    };
    let mut tasks: BTreeMap<String, Value> = (0..40).map(named).collect();
    tasks.insert("wf-short".to_owned(), ferris());
    let options = Options {
        first_lives: vec![Duration::from_secs(2)],
        ..options()
    };
    let status = agent(&executor, options).run(&metadata(), &tasks).await;
    assert_eq!(status.nodes.len(), tasks.len(), "no node is lost");
    for (name, node) in &status.nodes {
        let expected = if name == "wf-short" {
            "Succeeded"
        } else {
            "Failed"
        };
        assert_eq!(node["phase"], expected, "{name}: {node}");
    }
    assert!(
        status.calls.values().any(|calls| *calls > 2),
        "the agent repeated calls: {:?}",
        status.calls
    );
    eventually("the log line of the last step", async || {
        executor.steps_run() >= tasks.len()
    })
    .await;
    // A step runs again if the agent stopped between its reply and the patch.
    assert!(
        executor.steps_run() <= tasks.len() + 3,
        "{} steps ran for {} nodes",
        executor.steps_run(),
        tasks.len()
    );
}

/// Sends a recorded request with a `Host` and a `Content-Length`, and reads the answer until it
/// contains `end`.
async fn exchange(address: &str, request: &str, end: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address.trim_start_matches("http://"))
        .await
        .unwrap();
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let text = format!(
        "{}\r\nHost: localhost\r\n{length}\r\n{body}",
        head.trim_end().replace('\n', "\r\n")
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let mut chunk = [0; 4096];
    let reading = async {
        while !answer.contains(end) {
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "{request}: {answer}");
            answer.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .unwrap();
    answer
}

/// The program and the API server of these tests understand calls that were recorded from Argo's
/// own agent. The test double sends the same requests.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_calls_of_the_real_agent_are_understood() {
    let executor = Executor::start();
    let text =
        std::fs::read_to_string(guests::repository().join("integration/fixtures/agent-calls.txt"))
            .unwrap();
    let modules = guests::directory().display().to_string();
    let text = text
        .replace("TOKEN", &executor.token)
        .replace("/MODULES", &modules);
    let [execute, watch, patch] = text
        .split("\n###\n")
        .skip(1)
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let answer = exchange(&executor.url, execute, "}}}").await;
    assert!(
        answer.contains("\"phase\":\"Succeeded\"") && answer.contains("step 6"),
        "{answer}"
    );
    let workflow = json!({"metadata": {"name": "wf", "namespace": "argo", "uid": "5d3c7f6e-0000-4000-8000-000000000009"}});
    let nodes = BTreeMap::from([("wf-spin".to_owned(), ferris())]);
    let server = TaskSetServer::start(&workflow, &nodes, 1).await;
    let answer = exchange(&server.url, watch, "\n\r\n").await;
    assert!(
        answer.contains("\"type\":\"ADDED\"") && answer.contains("\"wf-spin\":{"),
        "{answer}"
    );
    let answer = exchange(&server.url, patch, "WorkflowTaskSet").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    eventually("the controller reads the result", async || {
        server.outcome().nodes.contains_key("wf-spin")
    })
    .await;
    let recorded = server.requests();
    let server = TaskSetServer::start(&workflow, &nodes, 1).await;
    let status = agent(&executor, options())
        .work_on(&server, &workflow)
        .await;
    assert_eq!(
        (status.nodes["wf-spin"]["phase"].as_str(), server.requests()),
        (Some("Succeeded"), recorded)
    );
}

/// Tests the test double itself: it must be as strict as Argo's agent.
#[tokio::test]
async fn the_test_agent_is_as_strict_as_argos_agent() {
    use axum::routing::post;
    use axum::{Json, Router, http::StatusCode};

    let plugin = async |router: Router| {
        let url = format!("http://{}", wasm_workflow_integration::serve(router).await);
        Plugin {
            url,
            token: String::new(),
        }
    };
    let path = "/api/v1/template.execute";
    let two = BTreeMap::from([
        ("a".to_owned(), json!({})),
        ("b".to_owned(), json!({"bad": true})),
    ]);
    let run = async |plugin: Plugin| {
        Agent::new(vec![plugin], options())
            .run(&metadata(), &two)
            .await
    };

    // One invalid name turns the whole batch into errors.
    let poison = async |Json(body): Json<Value>| {
        let name = if body["template"]["bad"] == true {
            "bad name"
        } else {
            "good"
        };
        Json(
            json!({"node": {"phase": "Succeeded", "outputs": {"parameters": [{"name": name, "value": "v"}]}}}),
        )
    };
    let status = run(plugin(Router::new().route(path, post(poison))).await).await;
    assert!(
        status.nodes.values().all(|node| node["phase"] == "Error"),
        "{status:?}"
    );

    // Status 404 switches the plugin off.
    let status = run(plugin(Router::new()).await).await;
    assert!(
        status
            .nodes
            .values()
            .all(|node| node["message"] == "no plugin executed the template"),
        "{status:?}"
    );

    // A result in a loop must be JSON. An empty result is not JSON.
    for (result, is_error) in [("plain", true), ("", true), ("[1]", false)] {
        let node = json!({"node": {"phase": "Succeeded", "outputs": {"result": result}}});
        let always = plugin(Router::new().route(path, post(async move || Json(node)))).await;
        let agent = Agent::new(vec![always], options());
        for (name, in_loop) in [("wf[0].a", false), ("wf[0].a(0:x)", true)] {
            let nodes = BTreeMap::from([(name.to_owned(), json!({}))]);
            let status = agent.run(&metadata(), &nodes).await;
            assert_eq!(
                status.error.is_some(),
                is_error && in_loop,
                "{result} {name}"
            );
        }
    }

    // The controller ends a pending node after its timeout.
    let still = async || Json(json!({"node": {}, "requeue": "1s"}));
    let nodes = BTreeMap::from([("a".to_owned(), json!({"timeout": "1s"}))]);
    let waiting = plugin(Router::new().route(path, post(still))).await;
    let status = Agent::new(vec![waiting], options())
        .run(&metadata(), &nodes)
        .await;
    assert_eq!(status.nodes["a"]["message"], "timeout");

    // A call with status 503 is made five times, and a call with 500 once. There are two nodes.
    let failing = |code: StatusCode| {
        let hits = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&hits);
        let handler = async move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            (code, "why")
        };
        (Router::new().route(path, post(handler)), hits)
    };
    for (code, expected) in [
        (StatusCode::SERVICE_UNAVAILABLE, 10),
        (StatusCode::INTERNAL_SERVER_ERROR, 2),
    ] {
        let (router, hits) = failing(code);
        let status = run(plugin(router).await).await;
        assert_eq!(hits.load(std::sync::atomic::Ordering::SeqCst), expected);
        assert!(
            status.nodes.values().all(|node| node["phase"] == "Failed"),
            "{status:?}"
        );
    }
}
