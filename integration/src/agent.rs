//! A double of Argo's agent.
//!
//! It does what `workflow/executor/agent.go`, `workflow/executor/plugins/rpc/plugin.go` and `workflow/util/plugin/plugin.go` of Argo 4.1 do:
//! sixteen workers that each hold a call to its end, plugins asked in turn until one returns a node, 404 switching a plugin off, calls that
//! end after 30 s and are repeated with the same bytes, `requeue`, results patched together at a tick, and one bad result turning
//! every node of its batch into an error. Waits can be shortened; nothing else is milder than the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::taskset;

/// A plugin as the agent knows it.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// Its token.
    pub token: String,
}

/// How the agent is set up. The defaults are Argo's.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `ARGO_AGENT_TASK_WORKERS`
    pub workers: usize,
    /// `ARGO_AGENT_PATCH_RATE`
    pub patch_rate: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// The first wait between two tries; each next is twice as long.
    pub backoff: Duration,
    /// Stop after this long and begin again, having forgotten everything but the patched status, as a restarted container does.
    pub restart_after: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 16,
            patch_rate: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            restart_after: None,
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

/// What the API server ends up with.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Each node's result.
    pub nodes: BTreeMap<String, Value>,
    /// How often each node was asked for.
    pub calls: BTreeMap<String, u32>,
    /// Patches that the API server refused, and why.
    pub refused: Vec<String>,
}

const TRIES: u32 = 5;

enum Answer {
    Reply(Value),
    /// 404: the method is switched off for this plugin.
    NotImplemented,
    Transient(String),
    Fatal(String),
}

impl Agent {
    /// An agent for these plugins.
    pub fn new(plugins: Vec<Plugin>, options: Options) -> Self {
        Self { plugins, options, client: crate::http() }
    }

    /// Runs every task of the task set, until each node has ended.
    pub async fn run(&self, workflow: &Value, tasks: &BTreeMap<String, Value>) -> Status {
        let status = Arc::new(Mutex::new(Status::default()));
        if let Some(after) = self.options.restart_after {
            // Whatever was not patched by then is asked again.
            let _ = tokio::time::timeout(after, self.session(workflow, tasks, &status)).await;
        }
        self.session(workflow, tasks, &status).await;
        status.lock().expect("the status").clone()
    }

    /// One life of the agent's container.
    async fn session(&self, workflow: &Value, tasks: &BTreeMap<String, Value>, status: &Arc<Mutex<Status>>) {
        let session = Session {
            agent: self,
            workflow,
            workers: Semaphore::new(self.options.workers),
            switched_off: Mutex::default(),
            batch: Mutex::default(),
            status: Arc::clone(status),
        };
        let unfinished: Vec<_> = {
            let status = status.lock().expect("the status");
            tasks.iter().filter(|(id, _)| !status.nodes.contains_key(*id)).collect()
        };
        let running = futures::future::join_all(unfinished.into_iter().map(|(id, task)| session.task(id, task)));
        let patching = session.patch_every_tick();
        tokio::select! {
            _ = running => session.patch(),
            () = patching => unreachable!("patching never ends"),
        }
    }
}

struct Session<'a> {
    agent: &'a Agent,
    workflow: &'a Value,
    workers: Semaphore,
    switched_off: Mutex<BTreeSet<usize>>,
    batch: Mutex<BTreeMap<String, Value>>,
    status: Arc<Mutex<Status>>,
}

impl Session<'_> {
    /// One task, as often as it asks to be asked again.
    async fn task(&self, id: &str, template: &Value) {
        // The bytes are the same each time: nothing in them says which time it is.
        let body = json!({"workflow": self.workflow, "template": template}).to_string();
        loop {
            let worker = self.workers.acquire().await.expect("workers");
            *self.status.lock().expect("the status").calls.entry(id.to_owned()).or_default() += 1;
            let (node, requeue) = match self.ask_all(&body).await {
                Ok(reply) => {
                    let requeue = reply["requeue"].as_str().map(go_duration);
                    (reply["node"].clone(), requeue)
                }
                Err(message) => (json!({"phase": "Failed", "message": message}), None),
            };
            drop(worker);
            let phase = node["phase"].as_str().unwrap_or_default().to_owned();
            if !phase.is_empty() {
                // A later result of the same node within one tick replaces the earlier.
                self.batch.lock().expect("the batch").insert(id.to_owned(), node);
            }
            match requeue.filter(|requeue| !requeue.is_zero() && phase != "Succeeded") {
                Some(requeue) => tokio::time::sleep(requeue).await,
                None => return,
            }
        }
    }

    /// Asks one plugin after the other, in random order, until one returns a node.
    async fn ask_all(&self, body: &str) -> Result<Value, String> {
        let mut order: Vec<usize> = (0..self.agent.plugins.len()).collect();
        fastrand::shuffle(&mut order);
        for index in order {
            if self.switched_off.lock().expect("the set").contains(&index) {
                continue;
            }
            match self.ask(&self.agent.plugins[index], body).await {
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

    /// One plugin, repeated while its faults are transient.
    async fn ask(&self, plugin: &Plugin, body: &str) -> Answer {
        let mut wait = self.agent.options.backoff;
        for attempt in 1..=TRIES {
            let answer = self.ask_once(plugin, body).await;
            if attempt == TRIES || !matches!(answer, Answer::Transient(_)) {
                return answer;
            }
            tokio::time::sleep(wait.mul_f64(1.0 + 0.2 * fastrand::f64())).await;
            wait *= 2;
        }
        unreachable!("the last attempt returns")
    }

    async fn ask_once(&self, plugin: &Plugin, body: &str) -> Answer {
        let url = format!("{}/api/v1/template.execute", plugin.url);
        let request = self.agent.client.post(url).bearer_auth(&plugin.token).header("content-type", "application/json");
        let answered = async {
            let response = request.body(body.to_owned()).send().await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        };
        let (status, text) = match tokio::time::timeout(self.agent.options.call_timeout, answered).await {
            // Timeouts, refused and reset connections, and broken replies are all transient for Go's client.
            Err(_) => return Answer::Transient("context deadline exceeded".to_owned()),
            Ok(Err(error)) => return Answer::Transient(error.to_string()),
            Ok(Ok(answered)) => answered,
        };
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
            tokio::time::sleep(self.agent.options.patch_rate).await;
            self.patch();
        }
    }

    /// Sends the batch. When it is refused, every node in it becomes an error.
    fn patch(&self) {
        let batch = std::mem::take(&mut *self.batch.lock().expect("the batch"));
        let mut status = self.status.lock().expect("the status");
        match taskset::refuse(&status.nodes, &batch) {
            None => status.nodes.extend(batch),
            Some(why) => {
                let message = format!(
                    "HTTP request completed successfully but an error occurred when patching its result: {why}"
                );
                let errors = batch.into_keys().map(|id| (id, json!({"phase": "Error", "message": message})));
                status.nodes.extend(errors.collect::<Vec<_>>());
                status.refused.push(why);
            }
        }
    }
}

/// What Go's decoder does with types it does not expect: it fails. `null` and unknown fields it takes.
fn check_types(reply: Value) -> Answer {
    let strings = [
        "/requeue",
        "/node/phase",
        "/node/message",
        "/node/progress",
        "/node/outputs/result",
        "/node/outputs/exitCode",
    ];
    let wrong = |path: &&&str| reply.pointer(path).is_some_and(|value| !value.is_string() && !value.is_null());
    match strings.iter().find(wrong) {
        Some(path) => Answer::Fatal(format!("json: cannot unmarshal {path} into Go struct")),
        None if !reply.is_object() && !reply.is_null() => Answer::Fatal("json: cannot unmarshal".to_owned()),
        None => Answer::Reply(reply),
    }
}

/// `time.ParseDuration`
fn go_duration(text: &str) -> Duration {
    text.parse::<wasm_workflow_executor::units::Time>().unwrap_or_else(|_| panic!("`{text}` is no Go duration")).0
}
