//! A double of Argo's agent.
//!
//! It does what `workflow/executor/agent.go`, `workflow/executor/plugins/rpc/plugin.go` and `workflow/util/plugin/plugin.go` of Argo 4.1 do: a watch of the task
//! set whose every event asks for all tasks that are not known yet, sixteen workers that each hold a call to its end, plugins asked in turn until one
//! returns a node, 404 switching a plugin off, calls that end after 30 s and are repeated with the same bytes, `requeue`, results patched together at a tick,
//! and one bad result turning every node of its batch into an error. Waits can be shortened; nothing else is milder than the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::task_set_server::TaskSets;

/// A plugin as the agent knows it.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// Its token.
    pub token: String,
}

/// How the agent is set up. The defaults are Argo's.
#[derive(Clone, Debug)]
pub struct Options {
    /// `ARGO_AGENT_TASK_WORKERS`
    pub workers: usize,
    /// `ARGO_AGENT_PATCH_RATE`
    pub patch_rate: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// The first wait between two tries; each next is twice as long.
    pub backoff: Duration,
    /// How many answers are lost on their way, of one.
    pub lost: f64,
    /// How many nodes the controller asks for at once.
    pub parallelism: usize,
    /// How long the first lives of the container are. It is killed, and begins again knowing nothing.
    pub lives: Vec<Duration>,
    /// How long the later ones are.
    pub life: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 16,
            patch_rate: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            lost: 0.0,
            parallelism: usize::MAX,
            lives: Vec::new(),
            life: Duration::from_hours(24),
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
        Self {
            plugins,
            options,
            client: crate::http(),
        }
    }

    /// Runs a workflow of these nodes, until each of them has ended.
    pub async fn run(&self, workflow: &Value, nodes: &BTreeMap<String, Value>) -> Status {
        let sets = TaskSets::start(workflow, nodes, self.options.parallelism).await;
        self.work_on(&sets, workflow).await
    }

    /// Works on the workflow's task set, life after life, until it is over.
    pub async fn work_on(&self, sets: &TaskSets, workflow: &Value) -> Status {
        let calls = Arc::default();
        let lives = self
            .options
            .lives
            .iter()
            .copied()
            .chain(std::iter::repeat(self.options.life));
        for life in lives {
            // Whatever was not patched by then is asked again.
            if tokio::time::timeout(life, self.live(sets, workflow, &calls))
                .await
                .is_ok()
            {
                break;
            }
        }
        let ended = sets.ended();
        let calls = calls.lock().expect("the calls").clone();
        Status {
            nodes: ended.nodes,
            calls,
            refused: ended.refused,
        }
    }

    /// One life of the agent's container. Dropped, it dies with all that it does.
    async fn live(
        &self,
        sets: &TaskSets,
        workflow: &Value,
        calls: &Arc<Mutex<BTreeMap<String, u32>>>,
    ) {
        // The pod's order, whatever that is.
        let mut order: Vec<usize> = (0..self.plugins.len()).collect();
        fastrand::shuffle(&mut order);
        let session = Arc::new(Session {
            order,
            plugins: self.plugins.clone(),
            options: self.options.clone(),
            client: self.client.clone(),
            sets: sets.url.clone(),
            workflow: workflow.clone(),
            workers: Arc::new(Semaphore::new(self.options.workers)),
            considered: Mutex::default(),
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
    sets: String,
    workflow: Value,
    workers: Arc<Semaphore>,
    /// Nodes that were asked for, and do not wait to be asked for again.
    considered: Mutex<BTreeSet<String>>,
    switched_off: Mutex<BTreeSet<usize>>,
    /// What goes into the next patch. Nobody hands in more while one is sent: in Go that is a channel without room.
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
            self.sets
        )
    }

    fn name(&self) -> &str {
        self.workflow["metadata"]["name"].as_str().expect("a name")
    }

    /// Takes every task of every event to a worker, until the workflow is completed. A watch that ends is begun again.
    async fn watch(self: &Arc<Self>) {
        let mut tasks = JoinSet::new();
        while !self.watch_once(&mut tasks).await {}
    }

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
                    // Nobody takes the next before a worker is free.
                    let worker = Arc::clone(&self.workers)
                        .acquire_owned()
                        .await
                        .expect("workers");
                    if self.considered.lock().expect("the set").insert(id.clone()) {
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

    /// One task, as often as it asks to be asked again.
    async fn task(
        self: Arc<Self>,
        id: String,
        template: Value,
        worker: tokio::sync::OwnedSemaphorePermit,
    ) {
        // The bytes are the same each time: nothing in them says which time it is.
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
            let (node, requeue) = match self.ask_all(&body).await {
                Ok(reply) => (
                    reply["node"].clone(),
                    reply["requeue"].as_str().map(go_duration),
                ),
                Err(message) => (json!({"phase": "Failed", "message": message}), None),
            };
            let phase = node["phase"].as_str().unwrap_or_default().to_owned();
            if !phase.is_empty() {
                // A later result of the same node within one tick replaces the earlier.
                self.results.lock().await.insert(id.clone(), node);
            }
            drop(held);
            match requeue.filter(|requeue| !requeue.is_zero() && phase != "Succeeded") {
                Some(requeue) => tokio::time::sleep(requeue).await,
                None => return,
            }
        }
    }

    /// Asks one plugin after the other until one returns a node.
    async fn ask_all(&self, body: &str) -> Result<Value, String> {
        for &index in &self.order {
            if self.switched_off.lock().expect("the set").contains(&index) {
                continue;
            }
            match self.ask(&self.plugins[index], body).await {
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
        let mut wait = self.options.backoff;
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
            // Timeouts, refused and reset connections, and broken replies are all transient for Go's client.
            Err(_) => return Answer::Transient("context deadline exceeded".to_owned()),
            Ok(Err(error)) => return Answer::Transient(error.to_string()),
            Ok(Ok(answered)) => answered,
        };
        if fastrand::f64() < self.options.lost {
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
                // What failed for a reason that passes is dropped like what was written, whatever the comment there says.
                Ok(()) | Err((true, _)) => results.clear(),
                // And with the next tick every node of the batch is an error.
                Err((false, why)) => {
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

    /// Sends the batch, up to five times. Whether the failure may pass, and what it was.
    async fn patch(&self, batch: &BTreeMap<String, Value>) -> Result<(), (bool, String)> {
        let url = format!("{}/{}/status", self.path(), self.name());
        let body = json!({"status": {"nodes": batch}}).to_string();
        let mut wait = self.options.backoff;
        for attempt in 1..=TRIES {
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
            let said: Value = answer.json().await.expect("a status");
            let message = said["message"].as_str().unwrap_or_default().to_owned();
            let passes = message.contains("leader changed");
            if !passes || attempt == TRIES {
                return Err((passes, message));
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the last attempt returns")
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

/// `time.ParseDuration`
fn go_duration(text: &str) -> Duration {
    text.parse::<wasm_workflow_executor::text::units::Time>()
        .unwrap_or_else(|_| panic!("`{text}` is no Go duration"))
        .0
}
