//! The API server as the agent sees it, and as much of the controller as fills and empties the `WorkflowTaskSet`.
//!
//! The agent makes two calls: a watch of one object, and merge patches of its status (`workflow/executor/agent.go`). The controller takes over what is patched,
//! removes nodes that have ended from the object (`workflow/controller/taskset.go`), and adds others, so many at once as the workflow's `parallelism` allows.

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

use crate::task_set_schema;

/// The two paths, below the server's URL: `{namespace}` and `{name}` are the workflow's.
const SETS: &str = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowtasksets";

/// A running server with the task set of one workflow.
#[derive(Clone, Debug)]
pub struct TaskSets {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    set: Mutex<TaskSet>,
    version: watch::Sender<u64>,
    asked: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct TaskSet {
    name: String,
    namespace: String,
    /// Nodes that are still to come.
    waiting: VecDeque<(String, Value)>,
    parallelism: usize,
    /// `spec.tasks`
    tasks: BTreeMap<String, Value>,
    /// `status.nodes`
    status: BTreeMap<String, Value>,
    /// What the controller knows of nodes that have ended.
    ended: BTreeMap<String, Value>,
    refused: Vec<String>,
    /// How late the controller is, at most.
    late: Duration,
    /// How long a watch lasts before the server ends it.
    watches: Option<Duration>,
    /// How many patches fail, one after the other, as they do while etcd changes its leader.
    failing: usize,
}

/// What became of a workflow's nodes.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Each node's result.
    pub nodes: BTreeMap<String, Value>,
    /// Patches that were refused, and why.
    pub refused: Vec<String>,
}

impl TaskSets {
    /// Starts it with these nodes, so many of them in the object at once.
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
            .map(|(id, template)| (id.clone(), template.clone()))
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
            asked: Mutex::default(),
        });
        let router = Router::new()
            .route(SETS, get(watched))
            .route(&format!("{SETS}/{{name}}/status"), patch(patched))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// What became of the nodes so far.
    pub fn ended(&self) -> Ended {
        let set = self.shared.set();
        Ended {
            nodes: set.ended.clone(),
            refused: set.refused.clone(),
        }
    }

    /// What was asked of it: methods and paths, each once.
    pub fn asked(&self) -> BTreeSet<String> {
        self.shared.asked.lock().expect("the list").clone()
    }

    /// The next patches fail for reasons that pass.
    pub fn fail(&self, patches: usize) {
        self.shared.set().failing = patches;
    }

    /// The controller is so late at most, and watches end after so long.
    pub fn delay(&self, controller: Duration, watches: Duration) {
        let mut set = self.shared.set();
        (set.late, set.watches) = (controller, Some(watches));
    }
}

impl Shared {
    fn set(&self) -> MutexGuard<'_, TaskSet> {
        self.set.lock().expect("the object")
    }
}

impl TaskSet {
    fn object(&self, version: u64) -> Value {
        let done = self.tasks.is_empty() && self.waiting.is_empty();
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskSet",
            "metadata": {
                "name": self.name, "namespace": self.namespace, "resourceVersion": version.to_string(),
                "labels": {"workflows.argoproj.io/completed": done.to_string()},
            },
            "spec": {"tasks": self.tasks}, "status": {"nodes": self.status},
        })
    }

    fn fill(&mut self) {
        let mut size: usize = self
            .tasks
            .iter()
            .map(|(id, task)| id.len() + task.to_string().len() + 8)
            .sum();
        while self.tasks.len() < self.parallelism
            && let Some((id, template)) = self.waiting.pop_front()
        {
            size += id.len() + template.to_string().len() + 8;
            // What the API server refuses of the controller is for the workflow's author to make smaller.
            assert!(
                size < task_set_schema::MAX_OBJECT,
                "the tasks are too large for one object: lower the parallelism"
            );
            self.tasks.insert(id, template);
        }
    }

    /// The controller's part. A result that comes late replaces the earlier, as Argo has it.
    fn reconcile(&mut self) {
        let over = |node: &Value| {
            matches!(
                node["phase"].as_str(),
                Some("Succeeded" | "Failed" | "Error" | "Skipped" | "Omitted")
            )
        };
        let ended: Vec<String> = self
            .status
            .iter()
            .filter(|(_, node)| over(node))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            self.tasks.remove(&id);
            if let Some(node) = self.status.remove(&id) {
                self.ended.insert(id, node);
            }
        }
        self.fill();
    }
}

async fn watched(
    State(shared): State<Arc<Shared>>,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    uri: Uri,
) -> Response {
    shared
        .asked
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
        "and its own workflow"
    );
    assert_eq!(query.get("watch").map(String::as_str), Some("true"));
    let versions = shared.version.subscribe();
    let ends = shared.set().watches.map(|after| Instant::now() + after);
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

async fn patched(
    State(shared): State<Arc<Shared>>,
    Path((_, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    // Argo says what it is in a type that is none of JSON's usual ones.
    body: Bytes,
) -> Response {
    shared
        .asked
        .lock()
        .expect("the list")
        .insert(format!("PATCH {uri}"));
    let patch: Value = serde_json::from_slice(&body).expect("JSON");
    let kind = headers
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    assert_eq!(
        kind,
        Some("application/merge-patch+json"),
        "what the status is patched with"
    );
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
        if set.failing > 0 {
            set.failing -= 1;
            return status(500, "etcdserver: leader changed");
        }
        if let Some(why) = task_set_schema::refuse(&set.tasks, &set.status, &nodes) {
            set.refused.push(why.clone());
            return status(if why.contains("too large") { 413 } else { 422 }, &why);
        }
        set.status.extend(nodes);
        set.object(*shared.version.borrow())
    };
    let late = set.late;
    drop(set);
    let controller = Arc::clone(&shared);
    // The controller comes to it when it has time: until then what was patched stays in the object.
    tokio::spawn(async move {
        tokio::time::sleep(late.mul_f64(fastrand::f64())).await;
        controller.set().reconcile();
        controller.version.send_modify(|version| *version += 1);
    });
    shared.version.send_modify(|version| *version += 1);
    Json(object).into_response()
}
