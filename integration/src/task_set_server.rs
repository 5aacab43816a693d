//! The API server of the agent, and the part of Argo's controller that fills and empties the
//! `WorkflowTaskSet`.
//!
//! The agent makes two kinds of calls: it watches one object, and it sends merge patches of the
//! object's status (`workflow/executor/agent.go`). The controller reads the patched results,
//! removes nodes that have ended from the object (`workflow/controller/taskset.go`), and adds
//! further nodes. The `parallelism` of the workflow limits the number of nodes in the object.
//!
//! The ids of nodes have the form of Argo's names of nodes, where a test needs it. The controller
//! then does these things, too (`operator.go`, `steps.go`):
//!
//! - It ends a node with a `timeout` that is still pending. A node with the phase `Running` is not
//!   ended.
//! - It parses the result of each iteration of a loop as JSON, once all iterations have ended. A
//!   result that is not JSON ends the whole workflow with an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;
use wasm_workflow_executor::text::units::Time;

use crate::cluster::merge_patch;
use crate::task_set_schema;

/// Path of the task sets, below the URL of the server. `{namespace}` is the namespace of the
/// Workflow.
const SETS: &str = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowtasksets";

/// A running server with the task set of one workflow. It ends with the runtime of the test.
#[derive(Clone, Debug)]
pub struct TaskSetServer {
    /// URL of the server: `http://127.0.0.1:PORT`.
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    set: Mutex<TaskSet>,
    version: watch::Sender<u64>,
    requests: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct TaskSet {
    name: String,
    namespace: String,
    /// Nodes that are not in the object yet.
    waiting: VecDeque<WaitingNode>,
    parallelism: usize,
    /// Nodes in the object: `spec.tasks`.
    tasks: BTreeMap<String, Value>,
    /// Patched results in the object: `status.nodes`.
    status: BTreeMap<String, Value>,
    /// Results of the nodes that have ended, as the controller read them.
    ended: BTreeMap<String, Value>,
    /// Nodes that the controller saw as `Running`.
    running: BTreeSet<String>,
    /// The error that ended the workflow.
    error: Option<String>,
    refused: Vec<String>,
    /// Longest delay of the controller after a patch.
    controller_delay: Duration,
    /// Duration after which the server ends a watch; `None` if it never does.
    watch_duration: Option<Duration>,
    /// Number of the next patches that fail, like patches during a change of etcd's leader.
    failing_patches: usize,
}

#[derive(Debug)]
struct WaitingNode {
    id: String,
    template: Value,
}

/// Results of the nodes of a workflow.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Result of each node that has ended.
    pub nodes: BTreeMap<String, Value>,
    /// Nodes that were `Running` for the controller at some time.
    pub running: BTreeSet<String>,
    /// The error that ended the workflow; `None` if it did not end with an error.
    pub error: Option<String>,
    /// Reasons for which patches were refused.
    pub refused: Vec<String>,
}

impl TaskSetServer {
    /// Starts a server with these nodes. At most `parallelism` nodes are in the object at once.
    pub async fn start(
        workflow: &Value,
        nodes: &BTreeMap<String, Value>,
        parallelism: usize,
    ) -> Self {
        let text = |key: &str| {
            workflow["metadata"][key]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let waiting = nodes
            .iter()
            .map(|(id, template)| WaitingNode {
                id: id.clone(),
                template: template.clone(),
            })
            .collect();
        let mut set = TaskSet {
            name: text("name"),
            namespace: text("namespace"),
            waiting,
            parallelism,
            ..TaskSet::default()
        };
        set.fill();
        let shared = Arc::new(Shared {
            set: Mutex::new(set),
            version: watch::channel(1).0,
            requests: Mutex::default(),
        });
        let router = Router::new()
            .route(SETS, get(watch_set))
            .route(&format!("{SETS}/{{name}}/status"), patch(patch_status))
            .with_state(Arc::clone(&shared));
        let url = format!("http://{}", crate::serve(router).await);
        for (id, template) in nodes {
            if let Some(timeout) = template["timeout"].as_str() {
                let timeout: Time = timeout.parse().expect("a Go duration");
                tokio::spawn(end_if_pending(Arc::clone(&shared), id.clone(), timeout.0));
            }
        }
        Self { url, shared }
    }

    /// Results of the nodes that have ended so far.
    pub fn outcome(&self) -> Outcome {
        let set = self.shared.set();
        Outcome {
            nodes: set.ended.clone(),
            running: set.running.clone(),
            error: set.error.clone(),
            refused: set.refused.clone(),
        }
    }

    /// The distinct requests so far: methods and paths.
    pub fn requests(&self) -> BTreeSet<String> {
        self.shared.requests.lock().expect("the list").clone()
    }

    /// Lets the next patches fail with a transient error.
    pub fn fail_patches(&self, count: usize) {
        self.shared.set().failing_patches = count;
    }

    /// Sets the longest delay of the controller after a patch.
    pub fn delay_controller(&self, longest: Duration) {
        self.shared.set().controller_delay = longest;
    }

    /// Ends each watch after this duration.
    pub fn limit_watches(&self, duration: Duration) {
        self.shared.set().watch_duration = Some(duration);
    }
}

impl Shared {
    fn set(&self) -> MutexGuard<'_, TaskSet> {
        self.set.lock().expect("the object")
    }
}

impl TaskSet {
    fn object(&self, version: u64) -> Value {
        let done = self.error.is_some() || (self.tasks.is_empty() && self.waiting.is_empty());
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskSet",
            "metadata": {
                "name": self.name, "namespace": self.namespace, "resourceVersion": version.to_string(),
                "labels": {"workflows.argoproj.io/completed": done.to_string()},
            },
            "spec": {"tasks": self.tasks}, "status": {"nodes": self.status},
        })
    }

    /// Moves waiting nodes into the object.
    fn fill(&mut self) {
        let mut size: usize = self
            .tasks
            .iter()
            .map(|(id, task)| id.len() + task.to_string().len() + 8)
            .sum();
        while self.tasks.len() < self.parallelism
            && let Some(WaitingNode { id, template }) = self.waiting.pop_front()
        {
            size += id.len() + template.to_string().len() + 8;
            // The API server refuses a larger object. That is a mistake of the test.
            assert!(
                size < task_set_schema::MAX_OBJECT,
                "the tasks are too large for one object: lower the parallelism"
            );
            self.tasks.insert(id, template);
        }
    }

    /// The controller's part: removes nodes that have ended, and adds waiting nodes. A later result
    /// of a node replaces the earlier result, as in Argo.
    fn reconcile(&mut self) {
        let has_ended = |node: &Value| {
            matches!(
                node["phase"].as_str(),
                Some("Succeeded" | "Failed" | "Error" | "Skipped" | "Omitted")
            )
        };
        let ended: Vec<String> = self
            .status
            .iter()
            .filter(|(_, node)| has_ended(node))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            self.tasks.remove(&id);
            if let Some(node) = self.status.remove(&id) {
                self.ended.insert(id, node);
            }
        }
        let running = |node: &Value| node["phase"] == "Running";
        let running = self.status.iter().filter(|(_, node)| running(node));
        self.running.extend(running.map(|(id, _)| id.clone()));
        self.fill();
        self.error = self.error.take().or_else(|| self.loop_error());
    }

    /// The error of the first loop whose iterations have all ended, and have a result that is not
    /// JSON.
    fn loop_error(&self) -> Option<String> {
        let waiting = self.waiting.iter().map(|node| &node.id);
        let unfinished: BTreeSet<&str> = self
            .tasks
            .keys()
            .chain(waiting)
            .filter_map(|id| loop_of(id))
            .collect();
        let results = self.ended.iter().filter(|(id, node)| {
            let finished = loop_of(id).is_some_and(|step| !unfinished.contains(step));
            finished && node["phase"] == "Succeeded"
        });
        results
            .filter_map(|(_, node)| node["outputs"]["result"].as_str())
            .find_map(|result| serde_json::from_str::<Value>(result).err())
            .map(|error| error.to_string())
    }
}

/// The step of an iteration of a loop: `wf[0].say` of `wf[0].say(0:item)`.
fn loop_of(id: &str) -> Option<&str> {
    let (step, item) = id.split_once('(')?;
    let (number, _) = item.split_once(':')?;
    number.parse::<u32>().is_ok().then_some(step)
}

/// The controller's timeout of a node.
async fn end_if_pending(shared: Arc<Shared>, id: String, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    let mut set = shared.set();
    set.reconcile();
    if set.tasks.contains_key(&id) && !set.running.contains(&id) {
        set.tasks.remove(&id);
        let node = json!({"phase": "Failed", "message": "timeout"});
        set.ended.insert(id, node);
        set.fill();
        shared.version.send_modify(|version| *version += 1);
    }
}

/// Answers a watch: one event with the object, and one event after each change.
async fn watch_set(
    State(shared): State<Arc<Shared>>,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    uri: Uri,
) -> Response {
    shared
        .requests
        .lock()
        .expect("the list")
        .insert(format!("GET {uri}"));
    let name = {
        let set = shared.set();
        assert_eq!(
            namespace, set.namespace,
            "the agent watches its own namespace"
        );
        set.name.clone()
    };
    assert_eq!(
        query.get("fieldSelector"),
        Some(&format!("metadata.name={name}")),
        "the agent watches its own workflow"
    );
    assert_eq!(query.get("watch").map(String::as_str), Some("true"));
    let versions = shared.version.subscribe();
    let ends = shared
        .set()
        .watch_duration
        .map(|after| Instant::now() + after);
    let events = futures::stream::unfold(
        (shared, versions, "ADDED"),
        move |(shared, mut versions, kind)| async move {
            if kind == "MODIFIED" {
                let changed = versions.changed();
                match ends {
                    Some(ends) => tokio::time::timeout_at(ends.into(), changed)
                        .await
                        .ok()?
                        .ok()?,
                    None => changed.await.ok()?,
                }
            }
            let version = *versions.borrow_and_update();
            let object = shared.set().object(version);
            let line = format!("{}\n", json!({"type": kind, "object": object}));
            Some((Ok::<_, Infallible>(line), (shared, versions, "MODIFIED")))
        },
    );
    (
        [("content-type", "application/json")],
        Body::from_stream(events),
    )
        .into_response()
}

/// Answers a merge patch of the status: 404 for another name, 500 for a requested fault, 413 or 422
/// for an invalid patch, and else 200 with the object.
async fn patch_status(
    State(shared): State<Arc<Shared>>,
    Path((_, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared
        .requests
        .lock()
        .expect("the list")
        .insert(format!("PATCH {uri}"));
    let patch = merge_patch::read(&headers, &body);
    let status = |code: u16, message: &str| {
        let text = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
        (StatusCode::from_u16(code).expect("a code"), Json(text)).into_response()
    };
    let nodes: BTreeMap<String, Value> =
        serde_json::from_value(patch["status"]["nodes"].clone()).unwrap_or_default();
    let mut set = shared.set();
    let object = {
        if set.name != name {
            return status(
                404,
                &format!("workflowtasksets.argoproj.io \"{name}\" not found"),
            );
        }
        if set.failing_patches > 0 {
            set.failing_patches -= 1;
            return status(500, "etcdserver: leader changed");
        }
        if let Some(why) = task_set_schema::refusal(&set.tasks, &set.status, &nodes) {
            set.refused.push(why.clone());
            return status(if why.contains("too large") { 413 } else { 422 }, &why);
        }
        set.status.extend(nodes);
        set.object(*shared.version.borrow())
    };
    let delay = set.controller_delay;
    drop(set);
    let controller = Arc::clone(&shared);
    // The controller handles the patch later. Until then the patched results stay in the object.
    tokio::spawn(async move {
        tokio::time::sleep(delay.mul_f64(fastrand::f64())).await;
        controller.set().reconcile();
        controller.version.send_modify(|version| *version += 1);
    });
    shared.version.send_modify(|version| *version += 1);
    Json(object).into_response()
}
