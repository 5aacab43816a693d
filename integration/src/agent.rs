//! A test double of Argo's agent.
//!
//! It behaves like `workflow/executor/agent.go`, `workflow/executor/plugins/rpc/plugin.go` and
//! `workflow/util/plugin/plugin.go` of Argo 4.1:
//!
//! - It watches the task set. Each event starts all tasks that are not known yet.
//! - It has sixteen workers. A worker holds one call until the call ends.
//! - It calls one plugin after the other until a plugin returns a node.
//! - Status 404 switches a plugin off.
//! - A call ends after 30 s. A transient fault repeats the call with the same bytes.
//! - A reply with `requeue` repeats the call later.
//! - It collects results, and patches them together at each tick.
//! - One invalid result turns every node of its batch into an error.
//!
//! Tests can shorten the waits. Nothing else is less strict than the real agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::task_set_server::TaskSetServer;

/// A plugin that the agent calls.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// URL of the plugin: `http://127.0.0.1:PORT`.
    pub url: String,
    /// Bearer token that the agent sends to the plugin.
    pub token: String,
}

/// Settings of the agent. The defaults are those of Argo.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of workers: `ARGO_AGENT_TASK_WORKERS`.
    pub workers: usize,
    /// Time between two patches: `ARGO_AGENT_PATCH_RATE`.
    pub patch_rate: Duration,
    /// Longest duration of a call.
    pub call_timeout: Duration,
    /// Wait before the first retry. Each further wait is twice as long.
    pub backoff: Duration,
    /// Share of the replies that are lost, from 0 to 1.
    pub lost_replies: f64,
    /// Number of nodes that the controller puts into the task set at once.
    pub parallelism: usize,
    /// Durations of the first lives of the agent's container. At the end of a life the container is
    /// killed, and the next container knows nothing of the earlier calls.
    pub first_lives: Vec<Duration>,
    /// Duration of each later life.
    pub later_lives: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 16,
            patch_rate: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            lost_replies: 0.0,
            parallelism: usize::MAX,
            first_lives: Vec::new(),
            later_lives: Duration::from_hours(24),
        }
    }
}

/// The agent of one workflow.
#[derive(Debug)]
pub struct Agent {
    plugins: Vec<Plugin>,
    options: Options,
    client: reqwest::Client,
}

/// State of the workflow after its last node has ended.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Result of each node.
    pub nodes: BTreeMap<String, Value>,
    /// Number of calls for each node.
    pub calls: BTreeMap<String, u32>,
    /// Nodes that were `Running` for the controller at some time.
    pub running: BTreeSet<String>,
    /// The error that ended the workflow; `None` if it did not end with an error.
    pub error: Option<String>,
    /// Reasons for which the API server refused patches.
    pub refused: Vec<String>,
}

/// Number of attempts of a call or a patch.
const ATTEMPTS: u32 = 5;

/// Outcome of one call.
enum Answer {
    Reply(Value),
    /// Status 404: the agent does not call this plugin again.
    NotImplemented,
    /// The call is repeated.
    Transient(String),
    /// The node fails.
    Fatal(String),
}

/// Reason for which a patch failed.
enum PatchError {
    /// A later patch may succeed.
    Transient,
    /// The API server refused the content of the patch.
    Permanent(String),
}

impl Agent {
    /// An agent that calls these plugins.
    pub fn new(plugins: Vec<Plugin>, options: Options) -> Self {
        Self {
            plugins,
            options,
            client: crate::http(),
        }
    }

    /// Runs a workflow with these nodes until every node has ended.
    pub async fn run(&self, workflow: &Value, nodes: &BTreeMap<String, Value>) -> Status {
        let server = TaskSetServer::start(workflow, nodes, self.options.parallelism).await;
        self.work_on(&server, workflow).await
    }

    /// Works on the task set of the workflow until the workflow is completed. Starts a new life
    /// whenever the last life has ended.
    pub async fn work_on(&self, server: &TaskSetServer, workflow: &Value) -> Status {
        let calls = Arc::default();
        let lives = self
            .options
            .first_lives
            .iter()
            .copied()
            .chain(std::iter::repeat(self.options.later_lives));
        for life in lives {
            // The next life repeats the calls whose results were not patched in this life.
            if tokio::time::timeout(life, self.live(server, workflow, &calls))
                .await
                .is_ok()
            {
                break;
            }
        }
        let outcome = server.outcome();
        let calls = calls.lock().expect("the calls").clone();
        Status {
            nodes: outcome.nodes,
            calls,
            running: outcome.running,
            error: outcome.error,
            refused: outcome.refused,
        }
    }

    /// One life of the agent's container. Dropping the future kills the container: all calls of
    /// this life are aborted.
    async fn live(
        &self,
        server: &TaskSetServer,
        workflow: &Value,
        calls: &Arc<Mutex<BTreeMap<String, u32>>>,
    ) {
        // The agent calls its plugins in the order of the pod's containers, which is not defined.
        let mut order: Vec<usize> = (0..self.plugins.len()).collect();
        fastrand::shuffle(&mut order);
        let session = Arc::new(Session {
            order,
            plugins: self.plugins.clone(),
            options: self.options.clone(),
            client: self.client.clone(),
            server_url: server.url.clone(),
            workflow: workflow.clone(),
            workers: Arc::new(Semaphore::new(self.options.workers)),
            started: Mutex::default(),
            switched_off: Mutex::default(),
            results: tokio::sync::Mutex::default(),
            calls: Arc::clone(calls),
        });
        tokio::select! {
            () = session.patch_every_tick() => unreachable!("patching never ends"),
            () = session.watch() => {}
        }
    }
}

struct Session {
    order: Vec<usize>,
    plugins: Vec<Plugin>,
    options: Options,
    client: reqwest::Client,
    server_url: String,
    workflow: Value,
    workers: Arc<Semaphore>,
    /// Nodes whose task was started in this life.
    started: Mutex<BTreeSet<String>>,
    /// Indexes of plugins that answered 404.
    switched_off: Mutex<BTreeSet<usize>>,
    /// Results for the next patch. Workers wait for this lock while a patch is sent. In Go, they
    /// wait for an unbuffered channel.
    results: tokio::sync::Mutex<BTreeMap<String, Value>>,
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Session {
    fn path(&self) -> String {
        let namespace = self.workflow["metadata"]["namespace"]
            .as_str()
            .expect("a namespace");
        format!(
            "{}/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowtasksets",
            self.server_url
        )
    }

    fn name(&self) -> &str {
        self.workflow["metadata"]["name"].as_str().expect("a name")
    }

    /// Watches the task set until the workflow is completed. A watch that ends early is started
    /// again.
    async fn watch(self: &Arc<Self>) {
        let mut tasks = JoinSet::new();
        while !self.watch_once(&mut tasks).await {}
    }

    /// Gives every task of every event to a worker. Returns `true` when the workflow is completed,
    /// and `false` when the watch has ended.
    async fn watch_once(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> bool {
        let query = [
            ("fieldSelector", format!("metadata.name={}", self.name())),
            ("watch", "true".to_owned()),
        ];
        let url = reqwest::Url::parse_with_params(&self.path(), &query).expect("a URL");
        let answer = self.client.get(url).send().await.expect("the API server");
        let mut body = answer.bytes_stream();
        let mut text = Vec::new();
        while let Some(chunk) = body.next().await {
            text.extend_from_slice(&chunk.expect("an event"));
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).expect("JSON");
                let object = &event["object"];
                let completed = &object["metadata"]["labels"]["workflows.argoproj.io/completed"];
                if event["type"] == "DELETED" || *completed == "true" {
                    return true;
                }
                for (id, template) in object["spec"]["tasks"].as_object().expect("tasks") {
                    // The next task starts only when a worker is free.
                    let worker = Arc::clone(&self.workers)
                        .acquire_owned()
                        .await
                        .expect("workers");
                    if self.started.lock().expect("the set").insert(id.clone()) {
                        tasks.spawn(Arc::clone(self).task(id.clone(), template.clone(), worker));
                    }
                    while let Some(done) = tasks.try_join_next() {
                        done.expect("a task that does not panic");
                    }
                }
            }
        }
        false
    }

    /// Runs one task: repeats the call as long as the reply asks for a requeue.
    async fn task(
        self: Arc<Self>,
        id: String,
        template: Value,
        worker: tokio::sync::OwnedSemaphorePermit,
    ) {
        // Every call has the same bytes. The executor cannot distinguish the first call from a
        // retry.
        let body = json!({"workflow": self.workflow, "template": template}).to_string();
        let mut worker = Some(worker);
        loop {
            let held = match worker.take() {
                Some(worker) => worker,
                None => Arc::clone(&self.workers)
                    .acquire_owned()
                    .await
                    .expect("workers"),
            };
            *self
                .calls
                .lock()
                .expect("the calls")
                .entry(id.clone())
                .or_default() += 1;
            let mut requeue = None;
            let node = match self.call_plugins(&body).await {
                Ok(reply) => {
                    requeue = reply["requeue"].as_str().map(go_duration);
                    reply["node"].clone()
                }
                Err(message) => json!({"phase": "Failed", "message": message}),
            };
            let phase = node["phase"].as_str().unwrap_or_default().to_owned();
            if !phase.is_empty() {
                // Within one tick, a later result of a node replaces the earlier result.
                self.results.lock().await.insert(id.clone(), node);
            }
            drop(held);
            match requeue.filter(|requeue| !requeue.is_zero() && phase != "Succeeded") {
                Some(requeue) => tokio::time::sleep(requeue).await,
                None => return,
            }
        }
    }

    /// Calls one plugin after the other until a plugin returns a node.
    async fn call_plugins(&self, body: &str) -> Result<Value, String> {
        for &index in &self.order {
            if self.switched_off.lock().expect("the set").contains(&index) {
                continue;
            }
            match self.call(&self.plugins[index], body).await {
                Answer::Reply(reply) if reply["node"].is_object() => return Ok(reply),
                Answer::Reply(_) => {}
                Answer::NotImplemented => {
                    self.switched_off.lock().expect("the set").insert(index);
                }
                Answer::Fatal(message) | Answer::Transient(message) => return Err(message),
            }
        }
        Err("no plugin executed the template".to_owned())
    }

    /// Calls one plugin. Repeats the call after transient faults.
    async fn call(&self, plugin: &Plugin, body: &str) -> Answer {
        let mut wait = self.options.backoff;
        for attempt in 1..=ATTEMPTS {
            let answer = self.call_once(plugin, body).await;
            if attempt == ATTEMPTS || !matches!(answer, Answer::Transient(_)) {
                return answer;
            }
            tokio::time::sleep(wait.mul_f64(1.0 + 0.2 * fastrand::f64())).await;
            wait *= 2;
        }
        unreachable!("the last attempt returns")
    }

    async fn call_once(&self, plugin: &Plugin, body: &str) -> Answer {
        let url = format!("{}/api/v1/template.execute", plugin.url);
        let request = self
            .client
            .post(url)
            .bearer_auth(&plugin.token)
            .header("content-type", "application/json");
        let answered = async {
            let response = request.body(body.to_owned()).send().await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        };
        let (status, text) = match tokio::time::timeout(self.options.call_timeout, answered).await {
            // Timeouts, refused and reset connections, and truncated replies are transient in the
            // agent's client, which is written in Go.
            Err(_) => return Answer::Transient("context deadline exceeded".to_owned()),
            Ok(Err(error)) => return Answer::Transient(error.to_string()),
            Ok(Ok(answered)) => answered,
        };
        if fastrand::f64() < self.options.lost_replies {
            return Answer::Transient("connection reset by peer".to_owned());
        }
        match status.as_u16() {
            200 if text.is_empty() => Answer::Fatal("EOF".to_owned()),
            200 => match serde_json::from_str::<Value>(&text) {
                Ok(reply) => check_types(reply),
                Err(error) if error.is_eof() => Answer::Transient("unexpected EOF".to_owned()),
                Err(error) => Answer::Fatal(error.to_string()),
            },
            404 => Answer::NotImplemented,
            503 => Answer::Transient(format!("{status}: {text}")),
            _ => Answer::Fatal(format!("{status}: {text}")),
        }
    }

    async fn patch_every_tick(&self) {
        loop {
            tokio::time::sleep(self.options.patch_rate).await;
            let mut results = self.results.lock().await;
            if results.is_empty() {
                continue;
            }
            match self.patch(&results).await {
                // After a transient failure the agent drops the results, although a comment in the
                // agent's source says otherwise.
                Ok(()) | Err(PatchError::Transient) => results.clear(),
                // The next patch reports every node of the batch as an error.
                Err(PatchError::Permanent(why)) => {
                    let message = format!(
                        "HTTP request completed successfully but an error occurred when patching its result: {why}"
                    );
                    results
                        .values_mut()
                        .for_each(|node| *node = json!({"phase": "Error", "message": message}));
                }
            }
        }
    }

    /// Sends the batch. Repeats the patch after transient failures.
    async fn patch(&self, batch: &BTreeMap<String, Value>) -> Result<(), PatchError> {
        let url = format!("{}/{}/status", self.path(), self.name());
        let body = json!({"status": {"nodes": batch}}).to_string();
        let mut wait = self.options.backoff;
        for attempt in 1..=ATTEMPTS {
            let request = self
                .client
                .patch(&url)
                .header("content-type", "application/merge-patch+json");
            let answer = request
                .body(body.clone())
                .send()
                .await
                .expect("the API server");
            if answer.status().is_success() {
                return Ok(());
            }
            let status: Value = answer.json().await.expect("a status");
            let message = status["message"].as_str().unwrap_or_default().to_owned();
            if !message.contains("leader changed") {
                return Err(PatchError::Permanent(message));
            }
            if attempt == ATTEMPTS {
                return Err(PatchError::Transient);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the last attempt returns")
    }
}

/// Checks the types of the reply like Go's JSON decoder. The decoder accepts `null` and unknown
/// fields, and fails for a field of another type.
fn check_types(reply: Value) -> Answer {
    let strings = [
        "/requeue",
        "/node/phase",
        "/node/message",
        "/node/progress",
        "/node/outputs/result",
        "/node/outputs/exitCode",
    ];
    let wrong = |path: &&&str| {
        reply
            .pointer(path)
            .is_some_and(|value| !value.is_string() && !value.is_null())
    };
    match strings.iter().find(wrong) {
        Some(path) => Answer::Fatal(format!("json: cannot unmarshal {path} into Go struct")),
        None if !reply.is_object() && !reply.is_null() => {
            Answer::Fatal("json: cannot unmarshal".to_owned())
        }
        None => Answer::Reply(reply),
    }
}

/// Parses a duration like Go's `time.ParseDuration`.
fn go_duration(text: &str) -> Duration {
    text.parse::<wasm_workflow_executor::text::units::Time>()
        .unwrap_or_else(|_| panic!("`{text}` is not a Go duration"))
        .0
}
