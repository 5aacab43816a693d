//! Measures `serve --cluster` with the doubles of the Kubernetes API and of Argo's controller.
//!
//! `integration/benchmark` builds everything optimised, and starts this program. The doubles have
//! no etcd: a real API server adds its own time to each write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "an unexpected value ends the benchmark, and its result is printed"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasm_workflow_integration::cluster::double::{Cluster, round};
use wasm_workflow_integration::cluster::store::Store;
use wasm_workflow_integration::executor::{Executor, template};

/// Workflows of one step each second, and their number.
const RATE: u32 = 10;
const WORKFLOWS: usize = 600;
/// Steps of a wide workflow.
const WIDE: usize = 1000;
/// Workflows of the replicas, and the steps of each.
const SHARED: usize = 100;
const OF_EACH: usize = 100;
/// WorkflowTaskSets of others.
const OTHERS: usize = 1000;

#[tokio::main]
async fn main() {
    latency().await;
    wide().await;
    replicas().await;
    others().await;
}

/// Starts a replica. Its log has no line for each step.
fn replica(cluster: &Cluster, id: &str) -> Executor {
    let flags = ["--log-level", "warn,wasm_workflow_executor::app=info"];
    cluster.replica(id, &flags)
}

/// Runs one step, so that its module is compiled and the replica works.
async fn warm_up(cluster: &Cluster) {
    cluster.submit("warm-up", vec![round_of("warm-up", 1)]);
    cluster.ended("warm-up").await;
}

/// One round: `count` nodes of a no-op step.
fn round_of(name: &str, count: usize) -> BTreeMap<String, Value> {
    round(name, count, &template("noop-step"))
}

/// The times at which tasks and their results are in the store.
#[derive(Debug, Default)]
struct Seen {
    tasks: HashMap<String, Instant>,
    /// Time from the task to its result.
    took: Vec<Duration>,
}

/// Watches the store until the returned value is dropped.
fn watch(store: &Store) -> Arc<Mutex<Seen>> {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let watched = Arc::downgrade(&seen);
    let store = store.clone();
    tokio::spawn(async move {
        let mut versions = store.versions();
        let mut last = *versions.borrow();
        while versions.changed().await.is_ok() {
            let now = Instant::now();
            let Some(seen) = watched.upgrade() else {
                return;
            };
            let (changes, version) = store.changes("workflowtasksets", last).unwrap();
            last = version;
            let mut seen = seen.lock().unwrap();
            for set in changes.into_iter().filter_map(|change| change.after) {
                for node in keys(&set["spec"]["tasks"]) {
                    seen.tasks.entry(node.clone()).or_insert(now);
                }
                for node in keys(&set["status"]["nodes"]) {
                    if let Some(since) = seen.tasks.get(node).copied() {
                        seen.tasks.remove(node);
                        seen.took.push(now - since);
                    }
                }
            }
        }
    });
    seen
}

fn keys(map: &Value) -> impl Iterator<Item = &String> {
    map.as_object().into_iter().flat_map(|map| map.keys())
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// From the task to its result, with ten workflows of one step each second.
async fn latency() {
    let cluster = Cluster::start().await;
    let _replica = replica(&cluster, "r1");
    warm_up(&cluster).await;
    let seen = watch(&cluster.store);
    let before = cluster.api.requests();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    for number in 0..WORKFLOWS {
        tick.tick().await;
        let name = format!("one-{number}");
        cluster.submit(&name, vec![round_of(&name, 1)]);
    }
    for number in 0..WORKFLOWS {
        cluster.ended(&format!("one-{number}")).await;
    }
    let mut took = std::mem::take(&mut seen.lock().unwrap().took);
    println!("{RATE} workflows of one step each second, from the task to its result");
    println!("  steps {}", took.len());
    println!("  p50 {:>9.1?}   <= 15 ms", percentile(&mut took, 50));
    println!("  p99 {:>9.1?}   <= 50 ms", percentile(&mut took, 99));
    let writes = writes(&before, &cluster.api.requests());
    println!("  writes for each workflow {writes:.2}   <= 3");
}

/// Number of writes of the executor since `before`, for each workflow.
fn writes(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> f64 {
    let patches = |requests: &BTreeMap<String, usize>| -> usize {
        let requests = requests.iter();
        let patches = requests.filter(|(name, _)| name.starts_with("PATCH workflowtasksets"));
        patches.map(|(_, number)| number).sum()
    };
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let ratio = (patches(after) - patches(before)) as f64 / WORKFLOWS as f64;
    ratio
}

/// One workflow with many parallel steps.
async fn wide() {
    let cluster = Cluster::start().await;
    let _replica = replica(&cluster, "r1");
    warm_up(&cluster).await;
    let before = cluster.api.requests();
    let seen = watch(&cluster.store);
    let started = Instant::now();
    cluster.submit("wide", vec![round_of("wide", WIDE)]);
    cluster.ended("wide").await;
    let took = started.elapsed();
    let mut times = std::mem::take(&mut seen.lock().unwrap().took);
    let name = "PATCH workflowtasksets/status";
    let writes = cluster.api.requests()[name] - before.get(name).unwrap_or(&0);
    println!("one workflow with {WIDE} parallel steps");
    println!("  all results   {:>9.1?}", percentile(&mut times, 100));
    println!("  the workflow  {took:>9.1?}, with the controller's visits");
    println!("  writes of results {writes}   <= 2");
}

/// Three replicas share many workflows.
async fn replicas() {
    let cluster = Cluster::start().await;
    let replicas = ["r1", "r2", "r3"].map(|id| replica(&cluster, id));
    warm_up(&cluster).await;
    let started = Instant::now();
    for number in 0..SHARED {
        let name = format!("shared-{number}");
        cluster.submit(&name, vec![round_of(&name, OF_EACH)]);
    }
    let mut lost = 0;
    let mut changed = 0;
    for number in 0..SHARED {
        let name = format!("shared-{number}");
        cluster.ended(&name).await;
        let state = cluster.controller.state(&name);
        let succeeded = |node: &&Value| node["phase"] == "Succeeded";
        lost += OF_EACH - state.ended.values().filter(succeeded).count();
        changed += state.changed.len();
    }
    let took = started.elapsed();
    let mut run = Vec::new();
    for replica in &replicas {
        run.push(succeeded_steps(replica).await);
    }
    let total: usize = run.iter().sum();
    println!("three replicas, {SHARED} workflows with {OF_EACH} steps");
    println!("  {took:.1?}, steps of each replica {run:?}");
    // The warm-up is one step.
    let twice = total.saturating_sub(1 + SHARED * OF_EACH) + changed;
    println!("  lost {lost}, twice {twice}   0, 0");
}

/// Number of steps that have succeeded in a replica.
async fn succeeded_steps(replica: &Executor) -> usize {
    let url = format!("{}/metrics", replica.admin_url);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let name = "wasm_workflow_steps_total{phase=\"Succeeded\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |number| number.parse().unwrap())
}

/// Memory beside many WorkflowTaskSets of other plugins.
async fn others() {
    let cluster = Cluster::start().await;
    let replica = replica(&cluster, "r1");
    warm_up(&cluster).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = replica.anonymous_kilobytes();
    let other = json!({"name": "other", "plugin": {"other": {"text": "x".repeat(1000)}}});
    for number in 0..OTHERS {
        let tasks = BTreeMap::from([(format!("other-{number}"), other.clone())]);
        cluster.submit(&format!("other-{number}"), vec![tasks]);
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let after = replica.anonymous_kilobytes();
    let grown = after.saturating_sub(before);
    println!("{OTHERS} open WorkflowTaskSets of another plugin");
    println!("  anonymous memory {before} KiB before, {grown} KiB more after 30 s");
    let requests = cluster.api.requests();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let later = cluster.api.requests();
    let number = |requests: &BTreeMap<String, usize>| -> usize { requests.values().sum() };
    println!("  requests in 10 s {}", number(&later) - number(&requests));
}
