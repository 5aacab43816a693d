//! Many steps, and everything that Argo, its agent and this program's container can do to them.
//!
//! `WASM_WORKFLOW_TEST_STEPS` says how many, `WASM_WORKFLOW_TEST_SEED` from which seed; `integration/load` runs this with thousands, and another seed each time.

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
use wasm_workflow_integration::executor::{self, Executor, template};
use wasm_workflow_integration::task_set_server::TaskSets;
use wasm_workflow_integration::{eventually, guests};

use crate::message;

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
    let config = json!({"sources": {"files": guests::directory()}, "jobs": {"wait": "1s", "patchRate": "200ms"}});
    Executor::start_with(executor::Options {
        config: Some(config.to_string()),
        env: vec![("WASM_WORKFLOW_LOG_LEVEL".to_owned(), "info".to_owned())],
        ..executor::Options::default()
    })
}

/// What a node must end as.
#[derive(Clone, Debug)]
enum Expected {
    /// Succeeded, with this in its result.
    Says(String),
    /// Succeeded, with this output parameter.
    Gives(&'static str, String),
    /// This phase, with this in its message.
    Ends(&'static str, &'static str),
    /// Failed or Error, with this in its message.
    TimesOut(&'static str),
}

impl Expected {
    fn holds(&self, node: &Value) -> bool {
        match self {
            Self::Says(text) => {
                node["phase"] == "Succeeded"
                    && node["outputs"]["result"]
                        .as_str()
                        .is_some_and(|said| said.contains(text))
            }
            Self::Gives(name, value) => {
                node["phase"] == "Succeeded"
                    && node["outputs"]["parameters"] == json!([{"name": name, "value": value}])
            }
            Self::Ends(phase, text) => node["phase"] == *phase && message(node).contains(text),
            // Before it ran, or while it did: that depends on how busy the machine is.
            Self::TimesOut(text) => {
                matches!(node["phase"].as_str(), Some("Failed" | "Error"))
                    && message(node).contains(text)
            }
        }
    }
}

/// A step of some kind, and what it must end as. A step that is `slow` takes a second or two.
fn step(rng: &mut Rng, number: usize, slow: bool) -> (Value, Expected) {
    let with = |guest: &str, wasm: Value| {
        let mut template = template(guest);
        template["plugin"]["wasm"]
            .as_object_mut()
            .unwrap()
            .extend(wasm.as_object().unwrap().clone());
        template
    };
    let kinds = if slow { 9 } else { 7 };
    match rng.usize(..kinds) {
        0 => {
            let mut template = with("ferris-says", json!({}));
            template["inputs"] =
                json!({"parameters": [{"name": "text", "value": format!("step {number}.")}]});
            (template, Expected::Says(format!("step {number}.")))
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
                Expected::Gives("words", (number % 100).to_string()),
            )
        }
        // Large enough that few of them go into one object.
        2 => {
            let text = format!("{}{number}", "x".repeat(rng.usize(1000..40_000)));
            let mut template = with("cat", json!({"args": ["/in/text"]}));
            template["inputs"] =
                json!({"artifacts": [{"name": "text", "path": "/in/text", "raw": {"data": text}}]});
            (template, Expected::Says(text))
        }
        // Identical ones: nothing in them says which is which.
        3 => (
            with("noop-command", json!({})),
            Expected::Ends("Succeeded", ""),
        ),
        4 => (
            with("trap", json!({})),
            Expected::Ends("Failed", "unreachable"),
        ),
        5 => (
            with("noop-step", json!({"modul": "x"})),
            Expected::Ends("Error", "unknown key `modul`"),
        ),
        6 => {
            let mut template = with("noop-command", json!({}));
            template["outputs"] = json!({"parameters": [{"name": "missing", "valueFrom": {"path": "/out/x", "default": "d"}}]});
            (template, Expected::Gives("missing", "d".to_owned()))
        }
        7 => (
            with("spin", json!({"limits": {"time": "1500ms"}})),
            Expected::Ends("Failed", "time limit of 1.500s exceeded"),
        ),
        _ => {
            let mut template = with("spin", json!({}));
            template["timeout"] = json!("1s");
            (template, Expected::TimesOut("timeout of 1s exceeded"))
        }
    }
}

/// Nodes of all kinds; every `slow`th may be slow, if that is not 0.
fn nodes(rng: &mut Rng, count: usize, slow: usize) -> BTreeMap<String, (Value, Expected)> {
    (0..count)
        .map(|number| {
            (
                format!("wf-{number}"),
                step(rng, number, slow > 0 && number % slow == 0),
            )
        })
        .collect()
}

fn templates(nodes: &BTreeMap<String, (Value, Expected)>) -> BTreeMap<String, Value> {
    nodes
        .iter()
        .map(|(id, (template, _))| (id.clone(), template.clone()))
        .collect()
}

fn check(status: &Status, nodes: &BTreeMap<String, (Value, Expected)>) {
    assert!(
        status.refused.is_empty(),
        "a batch was refused: {:?}",
        status.refused
    );
    assert_eq!(status.nodes.len(), nodes.len(), "no node is lost");
    for (id, (template, expected)) in nodes {
        let node = &status.nodes[id];
        let short = |value: String| value.chars().take(500).collect::<String>();
        let (is, of) = (short(node.to_string()), short(template.to_string()));
        assert!(
            expected.holds(node),
            "{id}: {}, and it is {is}: {of}",
            short(format!("{expected:?}"))
        );
    }
}

fn plugin(executor: &Executor) -> Plugin {
    Plugin {
        url: executor.url.clone(),
        token: executor.token.clone(),
    }
}

/// How many steps the log says ran. Those whose template is refused never did.
fn ran(executor: &Executor) -> usize {
    executor.steps_run()
}

/// Sixteen at a time, and nothing goes wrong: none is lost, and none runs twice.
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
    let (began, all, workflow) = (Instant::now(), templates(&nodes), metadata());
    let mut halves = (0, 0);
    let watch = async {
        eventually_long("half of them", || ran(&executor) * 2 >= count).await;
        halves.0 = executor.resident();
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = agent.run(&workflow, &all) => status,
        () = watch => unreachable!("it waits for ever"),
        () = tokio::time::sleep(Duration::from_mins(30)) => panic!("not all nodes ended"),
    };
    halves.1 = executor.resident();
    println!(
        "{count} steps in {:?}; resident in the middle {} MiB, at the end {} MiB",
        began.elapsed(),
        halves.0 >> 10,
        halves.1 >> 10
    );
    check(&status, &nodes);
    let refused = nodes
        .values()
        .filter(|(_, expected)| matches!(expected, Expected::Ends("Error", _)))
        .count();
    eventually("the last step's line", async || {
        ran(&executor) >= count - refused
    })
    .await;
    assert_eq!(ran(&executor), count - refused, "none ran twice");
    assert!(
        halves.1 < halves.0 + (16 << 10),
        "memory grows: {halves:?} kilobytes"
    );
}

async fn eventually_long(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_mins(30),
            "{what} did not happen"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Another plugin of the same agent, which nothing is for: it takes its time, and now and then it is not there.
async fn neighbour(seed: u64) -> Plugin {
    let rng = Arc::new(Mutex::new(Rng::with_seed(seed)));
    let answer = async move || {
        let (pause, mood) = {
            let mut rng = rng.lock().unwrap();
            (Duration::from_millis(rng.u64(..20)), rng.u8(..))
        };
        tokio::time::sleep(pause).await;
        match mood {
            0..8 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            // Not asked again in this life of the agent.
            8 => StatusCode::NOT_FOUND.into_response(),
            _ => axum::Json(json!({})).into_response(),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/v1/template.execute", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Plugin {
        url,
        token: String::new(),
    }
}

/// The agent dies and comes back, its calls end too early, answers to it are lost, its patches fail for a while, a neighbour is slow; and this program is killed, or told to stop, and comes back.
/// Steps may run more than once then, and every node ends as it must.
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
    let lives = (0..6)
        .map(|_| Duration::from_millis(rng.u64(200..4000)))
        .collect();
    let options = Options {
        patch_rate: Duration::from_millis(200),
        backoff: Duration::from_secs(1),
        // Shorter than a first call waits: some are broken off and made again.
        call_timeout: Duration::from_millis(rng.u64(500..900)),
        lost: 0.02,
        parallelism: rng.usize(16..200),
        lives,
        // What a patch lost is asked for by the next.
        life: Duration::from_secs(8),
        ..Options::default()
    };
    println!("{options:?}");
    let sets = TaskSets::start(&metadata(), &templates(&nodes), options.parallelism).await;
    sets.delay(
        Duration::from_millis(rng.u64(..500)),
        Duration::from_millis(rng.u64(500..3000)),
    );
    let over = Arc::new(AtomicBool::new(false));
    let troubles = {
        let (sets, executor, over, mut rng) = (
            sets.clone(),
            Arc::clone(&executor),
            Arc::clone(&over),
            rng.fork(),
        );
        tokio::spawn(async move {
            let mut killed = 0;
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(rng.u64(500..2500))).await;
                if killed > 0 && rng.bool() {
                    sets.fail(rng.usize(1..7));
                } else if killed < 8 {
                    killed += 1;
                    let (mut executor, kindly) =
                        (Arc::clone(&executor).lock_owned().await, rng.bool());
                    let replaced = tokio::task::spawn_blocking(move || {
                        if kindly {
                            let (code, took) = executor.terminate();
                            assert!(
                                code == Some(0) && took < Duration::from_secs(8),
                                "{code:?} after {took:?}"
                            );
                            executor.start_again();
                        } else {
                            executor.replace();
                        }
                    });
                    replaced.await.unwrap();
                }
            }
            killed
        })
    };
    let agent = Agent::new(plugins, options);
    let status =
        tokio::time::timeout(Duration::from_mins(30), agent.work_on(&sets, &metadata())).await;
    over.store(true, Ordering::Relaxed);
    let killed = troubles.await.unwrap();
    let status = status
        .unwrap_or_else(|_| panic!("only {} of {count} nodes ended", sets.ended().nodes.len()));
    let calls: u32 = status.calls.values().sum();
    let runs = ran(&*executor.lock().await);
    println!("{count} nodes, {calls} calls, {runs} runs, ended {killed} times");
    check(&status, &nodes);
    assert!(calls as usize > count && killed > 0, "nothing went wrong");
    assert!(runs < 4 * count, "{runs} runs of {count} nodes");
}

/// A thousand steps of a minute each, and then a short one: that is answered at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_step_is_not_delayed_by_a_thousand_long_ones() {
    let executor = executor();
    let mut long = template("spin");
    long["plugin"]["wasm"]["limits"] = json!({"time": "1m"});
    let mut tasks: BTreeMap<String, Value> = (0..1000)
        .map(|number| (format!("wf-{number:04}"), long.clone()))
        .collect();
    let mut short = template("ferris-says");
    short["inputs"] = json!({"parameters": [{"name": "text", "value": "short"}]});
    // The last of them: the agent goes through them in this order.
    tasks.insert("wf-short".to_owned(), short);
    let workflow = metadata();
    let sets = TaskSets::start(&workflow, &tasks, usize::MAX).await;
    let options = Options {
        patch_rate: Duration::from_millis(200),
        ..Options::default()
    };
    let agent = Agent::new(vec![plugin(&executor)], options);
    let began = Instant::now();
    let answered = async {
        while !sets.ended().nodes.contains_key("wf-short") {
            assert!(
                began.elapsed() < Duration::from_mins(1),
                "it is not answered"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    };
    let took = tokio::select! {
        took = answered => took,
        _ = agent.work_on(&sets, &workflow) => panic!("all of them are over"),
    };
    println!("the short one was answered after {took:?}");
    assert_eq!(sets.ended().nodes["wf-short"]["phase"], "Succeeded");
    assert!(took < Duration::from_secs(15), "{took:?}");
}
