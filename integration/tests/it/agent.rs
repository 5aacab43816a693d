//! Steps through the double of Argo's agent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::agent::{Agent, Options, Plugin, Status};
use wasm_workflow_integration::eventually;
use wasm_workflow_integration::executor::{self, Executor, template};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::task_set_server::TaskSets;

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

/// So many steps ran, and no more: none twice, however often it is asked for. The log comes a little later than the replies.
async fn ran(executor: &Executor, steps: usize) {
    let count = || executor.steps_run();
    eventually("the last step's line", async || count() >= steps).await;
    assert_eq!(count(), steps, "none ran twice");
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
        // Nobody's: the only plugin says "not mine".
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
    ran(&executor, 4 * 20).await;
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

/// The agent's restart asks for everything again that was not patched: at least once.
#[tokio::test]
async fn a_restarted_agent_repeats_calls_and_loses_no_node() {
    let executor = Executor::start();
    let tasks: BTreeMap<String, Value> = (0..30)
        .map(|number| (format!("wf-{number}"), ferris()))
        .collect();
    let options = Options {
        lives: vec![Duration::from_millis(60)],
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
        "the restart came too late to matter"
    );
}

/// Steps outlive calls, and the agent itself: it forgets everything, asks again, and gets what goes on already. More of them than there are
/// workers and places keep no short one waiting.
#[tokio::test]
async fn long_steps_are_adopted_after_an_agent_restart_and_do_not_delay_short_ones() {
    let config = json!({"sources": {"files": wasm_workflow_integration::guests::directory()}, "jobs": {"wait": "300ms"}});
    let executor = Executor::start_with(executor::Options {
        config: Some(config.to_string()),
        ..executor::Options::default()
    });
    let mut long = template("spin");
    long["plugin"]["wasm"]["limits"] = json!({"time": "3s"});
    // With an `id` it is known again by an agent that forgot when it was to come.
    let named = |number: usize| {
        let mut long = long.clone();
        long["plugin"]["wasm"]["id"] = json!(format!("wf-{number}/0"));
        (format!("wf-{number}"), long)
    };
    let mut tasks: BTreeMap<String, Value> = (0..40).map(named).collect();
    tasks.insert("wf-short".to_owned(), ferris());
    let options = Options {
        lives: vec![Duration::from_secs(2)],
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
        "they were asked for again: {:?}",
        status.calls
    );
    let count = || executor.steps_run();
    eventually("the last step's line", async || count() >= tasks.len()).await;
    // What an agent got and had not written down when it stopped runs again.
    assert!(
        count() <= tasks.len() + 3,
        "{} ran for {}",
        count(),
        tasks.len()
    );
}

/// Sends bytes as they are, and reads what comes until `end` is in it.
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
    let (mut answer, mut chunk) = (String::new(), [0; 4096]);
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

/// What Argo's own agent sends is understood by the program and by the API server of these tests; and what the double sends is the same.
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
    let sets = TaskSets::start(&workflow, &nodes, 1).await;
    let answer = exchange(&sets.url, watch, "\n\r\n").await;
    assert!(
        answer.contains("\"type\":\"ADDED\"") && answer.contains("\"wf-spin\":{"),
        "{answer}"
    );
    let answer = exchange(&sets.url, patch, "WorkflowTaskSet").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    eventually("the controller's turn", async || {
        sets.ended().nodes.contains_key("wf-spin")
    })
    .await;
    let real = sets.asked();
    let sets = TaskSets::start(&workflow, &nodes, 1).await;
    let status = agent(&executor, options()).work_on(&sets, &workflow).await;
    assert_eq!(
        (status.nodes["wf-spin"]["phase"].as_str(), sets.asked()),
        (Some("Succeeded"), real)
    );
}

/// The double itself: what it must be strict about.
#[tokio::test]
async fn the_test_agent_is_as_strict_as_argos_agent() {
    use axum::routing::post;
    use axum::{Json, Router, http::StatusCode};

    let plugin = async |router: Router| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
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

    // One bad name turns the whole batch into errors.
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

    // 404 switches the plugin off.
    let status = run(plugin(Router::new()).await).await;
    assert!(
        status
            .nodes
            .values()
            .all(|node| node["message"] == "no plugin executed the template"),
        "{status:?}"
    );

    // 503 is tried five times, 500 once.
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
