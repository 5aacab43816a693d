//! Honest steps, which the attacks must not delay.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;
use wasm_workflow_integration::executor::{Caller, Executor};

/// An honest step that takes longer has failed.
const LOST: Duration = Duration::from_mins(1);

/// Number of attempts of a call, and the wait before the second one. As in Argo's agent
/// (`workflow/executor/agent.go`), each further wait is longer.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_secs(1);

/// An honest step: a template, and the time between two steps.
#[derive(Debug)]
pub(super) struct Honest {
    pub(super) name: &'static str,
    template: Value,
    pause: Duration,
}

impl Honest {
    /// Runs the module `name` in the directory, every `pause`.
    pub(super) fn new(directory: &Path, name: &'static str, pause: Duration) -> Self {
        let template = template(directory, &format!("{name}.wasm"));
        Self {
            name,
            template,
            pause,
        }
    }

    /// Runs the step once, so that its module is compiled.
    pub(super) async fn warm_up(&self, executor: &Executor) {
        let record = Mutex::new(Record::default());
        run(&executor.caller(), &self.template, Instant::now(), &record).await;
        let failures = record.into_inner().failures;
        assert!(failures.is_empty(), "{failures:?}");
    }
}

fn template(directory: &Path, module: &str) -> Value {
    let module = format!("file://{}", directory.join(module).display());
    // With a small limit, the scheduler finds memory for the step beside sixteen attacks.
    let limits = json!({"memory": "64Mi"});
    json!({"name": "honest", "plugin": {"wasm": {"module": module, "limits": limits}}})
}

/// The times of honest steps, and the failures.
#[derive(Debug, Default)]
pub(super) struct Record {
    times: Vec<Duration>,
    /// Number of calls that were made again, because their connection broke.
    repeated: usize,
    pub(super) failures: Vec<String>,
}

impl Record {
    /// Number of steps that ended.
    pub(super) fn steps(&self) -> usize {
        self.times.len()
    }

    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{:>6} steps  p50 {:>6.1} ms  p99 {:>6.1} ms  max {:>7.1} ms  failed {}  repeated {}",
            self.times.len(),
            milliseconds(self.percentile(50)),
            milliseconds(self.percentile(99)),
            milliseconds(self.percentile(100)),
            self.failures.len(),
            self.repeated,
        )
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Runs a step like Argo's agent: a call whose connection breaks is made again. Beside large bodies
/// of callers with the token, the executor may close a connection.
async fn node(caller: &Caller, template: &Value, record: &Mutex<Record>) -> Value {
    let mut attempt = 1;
    loop {
        match caller.try_execute(template).await {
            Ok(mut reply) => return reply["node"].take(),
            Err(error) => assert!(attempt < ATTEMPTS, "{error}"),
        }
        record.lock().await.repeated += 1;
        tokio::time::sleep(BACKOFF * attempt).await;
        attempt += 1;
    }
}

/// Runs one honest step, and records it. The time begins at `due`.
async fn run(caller: &Caller, template: &Value, due: Instant, record: &Mutex<Record>) {
    let node = tokio::time::timeout(LOST, node(caller, template, record)).await;
    let took = due.elapsed();
    let mut record = record.lock().await;
    record.times.push(took);
    match node {
        Ok(node) if node["phase"] == "Succeeded" => {}
        Ok(node) => record.failures.push(node.to_string()),
        Err(_) => record
            .failures
            .push(format!("no result after {} s", LOST.as_secs())),
    }
}

/// Runs `attacks` on the current runtime, and `honest` on another thread with a runtime of its own.
/// With one shared runtime, an honest call would wait for the attackers before it reached the
/// executor.
///
/// Sets `ended` when the attacks end or panic. `honest` must end then. If `honest` panics, the
/// attacks are dropped, and the panic goes to the caller.
pub(super) fn beside<T>(
    honest: impl Future<Output = ()> + Send,
    attacks: impl Future<Output = T>,
    ended: &AtomicBool,
) {
    let attackers = tokio::runtime::Handle::current();
    let (running, stopped) = oneshot::channel::<()>();
    let attacks = async {
        tokio::select! {
            _ = attacks => {}
            // The other thread has dropped `running`.
            _ = stopped => {}
        }
    };
    let run = || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _running = running;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(honest);
            });
            let attacked = catch_unwind(AssertUnwindSafe(|| attackers.block_on(attacks)));
            ended.store(true, Ordering::Relaxed);
            attacked.unwrap_or_else(|panic| resume_unwind(panic));
        });
    };
    tokio::task::block_in_place(run);
}

/// Starts honest steps at fixed times, until `ended` is set. A late step does not delay the next
/// one. Otherwise one long delay would be recorded as one late step.
pub(super) async fn keep_running(
    caller: &Caller,
    honest: &Honest,
    record: &Mutex<Record>,
    ended: &AtomicBool,
) {
    let mut steps = FuturesUnordered::new();
    let mut due = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {
                steps.push(run(caller, &honest.template, due, record));
                due += honest.pause;
            }
            Some(()) = steps.next() => {}
        }
    }
    while steps.next().await.is_some() {}
}

/// Runs modules that no step has compiled before.
pub(super) async fn keep_compiling(
    caller: &Caller,
    directory: &Path,
    record: &Mutex<Record>,
    ended: &AtomicBool,
) {
    for number in 0.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let text = format!(
            r#"(module (memory (export "memory") 1) (func (export "_start") (drop (i32.const {number}))))"#
        );
        // Within one workflow, a reference always has the same content. So each module has a path
        // of its own.
        let name = format!("new-{number}.wasm");
        std::fs::write(directory.join(&name), wat::parse_str(text).unwrap()).unwrap();
        run(caller, &template(directory, &name), Instant::now(), record).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
