//! Many steps, with and without random faults of the controller, of the agent, of another plugin
//! and of this program's container.
//!
//! `WASM_WORKFLOW_TEST_STEPS` is the number of steps, and `WASM_WORKFLOW_TEST_SEED` the seed of the
//! faults. `integration/load` runs these tests with thousands of steps and a new seed each time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use fastrand::Rng;
use serde_json::{Value, json};
use wasm_workflow_integration::agent::{Agent, Options, Plugin, Status};
use wasm_workflow_integration::executor::{self, Executor, Exit, template};
use wasm_workflow_integration::task_set_server::TaskSetServer;
use wasm_workflow_integration::{eventually, guests};

use crate::message;

/// Number in an environment variable.
fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number"))
    })
}

fn metadata() -> Value {
    json!({"metadata": {"name": "wf", "namespace": "argo", "uid": "5d3c7f6e-0000-4000-8000-000000000003"}})
}

fn executor() -> Executor {
    let config = json!({"sources": {"fileRoot": guests::directory()}, "agent": {"wait": "1s", "patchRate": "200ms"}});
    Executor::start_with(executor::Options {
        config: Some(config.to_string()),
        env: vec![("WASM_WORKFLOW_LOG_LEVEL".to_owned(), "info".to_owned())],
        ..executor::Options::default()
    })
}

/// Expected outcome of a node.
#[derive(Clone, Debug)]
enum Expected {
    /// Succeeded. The result contains this text.
    Result(String),
    /// Succeeded. The only output parameter has this name and value.
    Parameter(&'static str, String),
    /// This phase. The message contains this text.
    Phase(&'static str, &'static str),
    /// Failed or Error. The message contains this text.
    Timeout(&'static str),
}

/// A node of the workflow.
#[derive(Clone, Debug)]
struct Node {
    template: Value,
    expected: Expected,
}

impl Expected {
    fn matches(&self, node: &Value) -> bool {
        match self {
            Self::Result(text) => {
                node["phase"] == "Succeeded"
                    && node["outputs"]["result"]
                        .as_str()
                        .is_some_and(|result| result.contains(text))
            }
            Self::Parameter(name, value) => {
                node["phase"] == "Succeeded"
                    && node["outputs"]["parameters"] == json!([{"name": name, "value": value}])
            }
            Self::Phase(phase, text) => node["phase"] == *phase && message(node).contains(text),
            // Error if the step still waited at its timeout, Failed if it ran, or if the controller
            // ended the node. That depends on the load of the machine.
            Self::Timeout(text) => {
                matches!(node["phase"].as_str(), Some("Failed" | "Error"))
                    && message(node).contains(text)
            }
        }
    }
}

/// A node of a random kind. With `slow`, the kinds include steps of one or two seconds.
fn node(rng: &mut Rng, number: usize, slow: bool) -> Node {
    let with = |guest: &str, wasm: Value| {
        let mut template = template(guest);
        template["plugin"]["wasm"]
            .as_object_mut()
            .unwrap()
            .extend(wasm.as_object().unwrap().clone());
        template
    };
    let kinds = if slow { 9 } else { 7 };
    let (template, expected) = match rng.usize(..kinds) {
        0 => {
            let mut template = with("ferris-says", json!({"result": "text"}));
            template["inputs"] =
                json!({"parameters": [{"name": "text", "value": format!("step {number}.")}]});
            (template, Expected::Result(format!("step {number}.")))
        }
        1 => {
            let mut template = with(
                "word-count",
                json!({"args": ["/in/text", "/out/copy", "/out/words"]}),
            );
            template["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "raw": {"data": "w ".repeat(number % 100)}}]});
            template["outputs"] =
                json!({"parameters": [{"name": "words", "valueFrom": {"path": "/out/words"}}]});
            (
                template,
                Expected::Parameter("words", (number % 100).to_string()),
            )
        }
        // So large that only a few of these nodes fit into one object.
        2 => {
            let text = format!("{}{number}", "x".repeat(rng.usize(1000..40_000)));
            let mut template = with("cat", json!({"args": ["/in/text"], "result": "text"}));
            template["inputs"] =
                json!({"artifacts": [{"name": "text", "path": "/in/text", "raw": {"data": text}}]});
            (template, Expected::Result(text))
        }
        // Identical templates: the executor cannot distinguish these nodes.
        3 => (
            with("noop-command", json!({})),
            Expected::Phase("Succeeded", ""),
        ),
        4 => (
            with("trap", json!({})),
            Expected::Phase("Failed", "unreachable"),
        ),
        5 => (
            with("noop-step", json!({"modul": "x"})),
            Expected::Phase("Error", "unknown key `modul`"),
        ),
        6 => {
            let mut template = with("noop-command", json!({}));
            template["outputs"] = json!({"parameters": [{"name": "missing", "valueFrom": {"path": "/out/x", "default": "d"}}]});
            (template, Expected::Parameter("missing", "d".to_owned()))
        }
        7 => (
            with("spin", json!({"limits": {"time": "1500ms"}})),
            Expected::Phase("Failed", "time limit of 1.500s exceeded"),
        ),
        _ => {
            let mut template = with("spin", json!({}));
            template["timeout"] = json!("1s");
            (template, Expected::Timeout("timeout"))
        }
    };
    Node { template, expected }
}

/// Nodes of random kinds. One of `slow_every` nodes may be slow; 0 means none.
fn nodes(rng: &mut Rng, count: usize, slow_every: usize) -> BTreeMap<String, Node> {
    (0..count)
        .map(|number| {
            let slow = slow_every > 0 && number % slow_every == 0;
            (format!("wf-{number}"), node(rng, number, slow))
        })
        .collect()
}

fn templates(nodes: &BTreeMap<String, Node>) -> BTreeMap<String, Value> {
    nodes
        .iter()
        .map(|(id, node)| (id.clone(), node.template.clone()))
        .collect()
}

/// Checks that every node ended with its expected outcome, and that no patch was refused.
fn check(status: &Status, nodes: &BTreeMap<String, Node>) {
    assert!(
        status.refused.is_empty(),
        "a batch was refused: {:?}",
        status.refused
    );
    assert_eq!(status.nodes.len(), nodes.len(), "no node is lost");
    for (id, Node { template, expected }) in nodes {
        let node = &status.nodes[id];
        let short = |value: String| value.chars().take(500).collect::<String>();
        assert!(
            expected.matches(node),
            "{id}: expected {}, got {} for the template {}",
            short(format!("{expected:?}")),
            short(node.to_string()),
            short(template.to_string())
        );
    }
}

fn plugin(executor: &Executor) -> Plugin {
    Plugin {
        url: executor.url.clone(),
        token: executor.token.clone(),
    }
}

/// Sixteen steps at a time, without faults: no node is lost, and no step runs twice.
#[tokio::test(flavor = "multi_thread")]
async fn many_steps_run_exactly_once_without_faults() {
    let count = usize::try_from(setting("WASM_WORKFLOW_TEST_STEPS", 1500)).unwrap();
    let mut rng = Rng::with_seed(setting("WASM_WORKFLOW_TEST_SEED", 1));
    let executor = executor();
    let nodes = nodes(&mut rng, count, 0);
    let options = Options {
        patch_rate: Duration::from_millis(200),
        parallelism: 16,
        ..Options::default()
    };
    let agent = Agent::new(vec![plugin(&executor)], options);
    let all = templates(&nodes);
    let workflow = metadata();
    let began = Instant::now();
    let mut resident_halfway = 0;
    let watch = async {
        eventually_long("half of the steps", || executor.steps_run() * 2 >= count).await;
        resident_halfway = executor.resident_kilobytes();
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = agent.run(&workflow, &all) => status,
        () = watch => unreachable!("this future never ends"),
        () = tokio::time::sleep(Duration::from_mins(30)) => panic!("not all nodes ended"),
    };
    let resident_at_end = executor.resident_kilobytes();
    println!(
        "{count} steps in {:?}; resident halfway {} MiB, at the end {} MiB",
        began.elapsed(),
        resident_halfway >> 10,
        resident_at_end >> 10
    );
    check(&status, &nodes);
    let refused = nodes
        .values()
        .filter(|node| matches!(node.expected, Expected::Phase("Error", _)))
        .count();
    eventually("the log line of the last step", async || {
        executor.steps_run() >= count - refused
    })
    .await;
    assert_eq!(executor.steps_run(), count - refused, "no step ran twice");
    assert!(
        resident_at_end < resident_halfway + (16 << 10),
        "memory grows from {resident_halfway} to {resident_at_end} kilobytes"
    );
}

/// Waits until `condition` is true. Panics with `what` after 30 minutes.
async fn eventually_long(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_mins(30),
            "{what} did not happen in 30 minutes"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Another plugin of the same agent. No template is for this plugin. It answers slowly, and
/// sometimes with 503 or 404.
async fn neighbour(seed: u64) -> Plugin {
    let rng = Arc::new(Mutex::new(Rng::with_seed(seed)));
    let answer = async move || {
        let pause = Duration::from_millis(rng.lock().unwrap().u64(..20));
        let choice = rng.lock().unwrap().u8(..);
        tokio::time::sleep(pause).await;
        match choice {
            0..8 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            // The agent does not call this plugin again in its current life.
            8 => StatusCode::NOT_FOUND.into_response(),
            _ => axum::Json(json!({})).into_response(),
        }
    };
    let router = Router::new().route("/api/v1/template.execute", post(answer));
    let url = format!("http://{}", wasm_workflow_integration::serve(router).await);
    Plugin {
        url,
        token: String::new(),
    }
}

/// Every node ends with its expected outcome, although:
///
/// - the agent is killed and restarted, and its calls time out;
/// - replies are lost, and patches fail for a while;
/// - another plugin is slow;
/// - this program is killed or stopped, and restarted.
///
/// Steps may run more than once.
#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_lost_under_random_faults() {
    let seed = setting("WASM_WORKFLOW_TEST_SEED", 1);
    println!("WASM_WORKFLOW_TEST_SEED={seed}");
    let count = usize::try_from(setting("WASM_WORKFLOW_TEST_STEPS", 1500) / 3).unwrap();
    let mut rng = Rng::with_seed(seed);
    let nodes = nodes(&mut rng, count, 10);
    let executor = Arc::new(tokio::sync::Mutex::new(executor()));
    let plugins = vec![
        plugin(&*executor.lock().await),
        neighbour(rng.u64(..)).await,
    ];
    let first_lives = (0..6)
        .map(|_| Duration::from_millis(rng.u64(200..4000)))
        .collect();
    let options = Options {
        patch_rate: Duration::from_millis(200),
        backoff: Duration::from_secs(1),
        // Shorter than the first call of a step waits: some calls time out, and are repeated.
        call_timeout: Duration::from_millis(rng.u64(500..900)),
        lost_replies: 0.02,
        parallelism: rng.usize(16..200),
        first_lives,
        // The agent drops the results of a patch that fails. Its next life calls again for these
        // nodes.
        later_lives: Duration::from_secs(8),
        ..Options::default()
    };
    println!("{options:?}");
    let server = TaskSetServer::start(&metadata(), &templates(&nodes), options.parallelism).await;
    server.delay_controller(Duration::from_millis(rng.u64(..500)));
    server.limit_watches(Duration::from_millis(rng.u64(500..3000)));
    let completed = Arc::new(AtomicBool::new(false));
    let faults = tokio::spawn(inject_faults(
        server.clone(),
        Arc::clone(&executor),
        Arc::clone(&completed),
        rng.fork(),
    ));
    let agent = Agent::new(plugins, options);
    let status =
        tokio::time::timeout(Duration::from_mins(30), agent.work_on(&server, &metadata())).await;
    completed.store(true, Ordering::Relaxed);
    let restarts = faults.await.unwrap();
    let status = status.unwrap_or_else(|_| {
        panic!(
            "only {} of {count} nodes ended",
            server.outcome().nodes.len()
        )
    });
    let calls: u32 = status.calls.values().sum();
    let runs = executor.lock().await.steps_run();
    println!("{count} nodes, {calls} calls, {runs} runs, {restarts} restarts of the executor");
    check(&status, &nodes);
    assert!(
        calls as usize > count && restarts > 0,
        "there were no faults"
    );
    assert!(runs < 4 * count, "{runs} runs of {count} nodes");
}

/// Restarts the executor and lets patches fail at random times, until the workflow is completed.
/// Returns the number of restarts.
async fn inject_faults(
    server: TaskSetServer,
    executor: Arc<tokio::sync::Mutex<Executor>>,
    completed: Arc<AtomicBool>,
    mut rng: Rng,
) -> u32 {
    let mut restarts = 0;
    while !completed.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(rng.u64(500..2500))).await;
        if restarts > 0 && rng.bool() {
            server.fail_patches(rng.usize(1..7));
        } else if restarts < 8 {
            restarts += 1;
            let gracefully = rng.bool();
            let mut executor = Arc::clone(&executor).lock_owned().await;
            let restart = tokio::task::spawn_blocking(move || {
                if gracefully {
                    let Exit { code, took } = executor.terminate();
                    assert!(
                        code == Some(0) && took < Duration::from_secs(8),
                        "exit code {code:?} after {took:?}"
                    );
                    executor.restart();
                } else {
                    executor.kill_and_restart();
                }
            });
            restart.await.unwrap();
        }
    }
    restarts
}

/// A short step comes after a thousand steps of a minute each, and ends soon. The test compares it
/// with a short step after a thousand short steps, because a busy machine delays both.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_step_is_not_delayed_by_a_thousand_long_ones() {
    let mut long = template("spin");
    long["plugin"]["wasm"]["limits"] = json!({"time": "1m"});
    let reference = time_of_a_short_step_after(&template("noop-command")).await;
    let took = time_of_a_short_step_after(&long).await;
    println!("the short step ended after {took:?}, and after {reference:?} behind short steps");
    assert!(
        took < Duration::from_secs(15).max(5 * reference),
        "{took:?}, {reference:?}"
    );
}

/// The time of a short step that comes after a thousand steps with another template.
async fn time_of_a_short_step_after(other: &Value) -> Duration {
    let executor = executor();
    let mut tasks: BTreeMap<String, Value> = (0..1000)
        .map(|number| (format!("wf-{number:04}"), other.clone()))
        .collect();
    let mut short = template("ferris-says");
    short["inputs"] = json!({"parameters": [{"name": "text", "value": "short"}]});
    // The agent starts nodes in the order of their names, so the short step is the last one.
    tasks.insert("wf-short".to_owned(), short);
    let workflow = metadata();
    let server = TaskSetServer::start(&workflow, &tasks, usize::MAX).await;
    let options = Options {
        patch_rate: Duration::from_millis(200),
        ..Options::default()
    };
    let agent = Agent::new(vec![plugin(&executor)], options);
    let began = Instant::now();
    let ended = async {
        while !server.outcome().nodes.contains_key("wf-short") {
            assert!(
                began.elapsed() < Duration::from_mins(2),
                "the short step does not end"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    };
    let mut ended = std::pin::pin!(ended);
    let took = tokio::select! {
        took = &mut ended => took,
        // All steps have ended.
        _ = agent.work_on(&server, &workflow) => ended.await,
    };
    assert_eq!(server.outcome().nodes["wf-short"]["phase"], "Succeeded");
    took
}
