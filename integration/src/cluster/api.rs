//! The Kubernetes API over a [`Store`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::store::{Change, Key, Part, Refusal, Store};
use super::{merge_patch, selector};

/// A server of the Kubernetes API. It ends with the runtime of the test.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// URL of the server: `http://127.0.0.1:PORT`.
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    faults: Mutex<Faults>,
    /// By the token of the next page.
    lists: Mutex<BTreeMap<String, List>>,
    /// Number of requests by method and kind of object.
    requests: Mutex<BTreeMap<String, usize>>,
    /// Whether the network is cut in both directions.
    is_cut: watch::Sender<bool>,
}

impl Shared {
    /// Waits until packets pass.
    async fn connected(&self) {
        let mut is_cut = self.is_cut.subscribe();
        // The sender lives as long as `self`.
        let _ = is_cut.wait_for(|is_cut| !is_cut).await;
    }
}

/// Faults of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Share of the requests that fail with status 500 before they do anything.
    pub before: f64,
    /// Share of the requests that do their work, and then fail with status 504.
    pub after: f64,
    /// Share of the patches that get status 409.
    pub conflicts: f64,
}

impl ApiServer {
    /// Starts a server.
    pub async fn start(store: Store) -> Self {
        let shared = Arc::new(Shared {
            store,
            faults: Mutex::default(),
            lists: Mutex::default(),
            requests: Mutex::default(),
            is_cut: watch::Sender::new(false),
        });
        let argo = "/apis/argoproj.io/v1alpha1";
        let core = "/api/v1";
        let coordination = "/apis/coordination.k8s.io/v1";
        let mut router = Router::new();
        for group in [argo, core, coordination] {
            let of_namespace = format!("{group}/namespaces/{{namespace}}/{{kind}}");
            router = router
                .route(&format!("{group}/{{kind}}"), get(list_all))
                .route(&of_namespace, get(list).post(create))
                .route(
                    &format!("{of_namespace}/{{name}}"),
                    get(read).patch(patch_main).delete(delete),
                )
                .route(
                    &format!("{of_namespace}/{{name}}/status"),
                    patch(patch_status),
                );
        }
        let faulty = middleware::from_fn_with_state(Arc::clone(&shared), with_faults);
        let router = router.layer(faulty).with_state(Arc::clone(&shared));
        let url = format!("http://{}", crate::serve(router).await);
        Self { url, shared }
    }

    /// Sets the faults of the server.
    pub fn set_faults(&self, faults: Faults) {
        *self.shared.faults.lock().expect("the faults") = faults;
    }

    /// Cuts or restores the network. While it is cut, requests and events wait. They are delivered
    /// later, as a network does with packets that are sent again.
    pub fn cut(&self, is_cut: bool) {
        self.shared.is_cut.send_replace(is_cut);
    }

    /// Number of requests so far, by method and kind: `PATCH workflowtasksets/status`.
    pub fn requests(&self) -> BTreeMap<String, usize> {
        self.shared.requests.lock().expect("the requests").clone()
    }

    /// A kubeconfig file with this server.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "c", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "executors"}}],
        })
        .to_string()
    }
}

async fn with_faults(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let faults = *shared.faults.lock().expect("the faults");
    let is_watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let mut kind: Vec<&str> = request.uri().path().split('/').skip(4).collect();
    if kind.first() == Some(&"namespaces") {
        kind.drain(..2);
    }
    let status = if kind.last() == Some(&"status") {
        "/status"
    } else {
        ""
    };
    let name = format!(
        "{} {}{status}",
        request.method(),
        kind.first().unwrap_or(&"")
    );
    *shared
        .requests
        .lock()
        .expect("the requests")
        .entry(name)
        .or_default() += 1;
    let is_patch = request.method() == "PATCH";
    if fastrand::f64() < faults.before {
        return refused(&Refusal {
            code: 500,
            message: "etcdserver: leader changed".into(),
        });
    }
    if is_patch && fastrand::f64() < faults.conflicts {
        return refused(&Refusal {
            code: 409,
            message: "a conflict at random".into(),
        });
    }
    shared.connected().await;
    let answer = next.run(request).await;
    shared.connected().await;
    if !is_watch && fastrand::f64() < faults.after {
        return refused(&Refusal {
            code: 504,
            message: "the answer is lost".into(),
        });
    }
    answer
}

fn refused(refusal: &Refusal) -> Response {
    let Refusal { code, message } = refusal;
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    (StatusCode::from_u16(*code).expect("a code"), Json(status)).into_response()
}

fn is_metadata_only(headers: &HeaderMap) -> bool {
    let accept = headers
        .get("accept")
        .and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"))
}

/// The object as the client wants it.
fn shown(object: &Value, metadata_only: bool) -> Value {
    match metadata_only {
        true => json!({"metadata": object["metadata"]}),
        false => object.clone(),
    }
}

/// The service account of the namespace whose rights are needed for Secrets.
const TENANT_ACCOUNT: &str = "wasm-executor-plugin";

/// Whether the user of the request may read objects of this kind. The user of the kubeconfig file
/// may read no Secret. It may act as the [`TENANT_ACCOUNT`], which may read the Secrets of its
/// namespace, if the account exists.
fn may_read(shared: &Shared, namespace: &str, kind: &str, headers: &HeaderMap) -> bool {
    let impersonated = headers.get("impersonate-user");
    let account = format!("system:serviceaccount:{namespace}:{TENANT_ACCOUNT}");
    let is_account = impersonated.is_some_and(|user| *user == account);
    let key = (
        "serviceaccounts".to_owned(),
        namespace.to_owned(),
        TENANT_ACCOUNT.to_owned(),
    );
    match impersonated {
        None => kind != "secrets",
        Some(_) => is_account && shared.store.get(&key).is_some(),
    }
}

async fn read(
    State(shared): State<Arc<Shared>>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if !may_read(&shared, &namespace, &kind, &headers) {
        let message = format!("{kind} \"{name}\" is forbidden");
        return refused(&Refusal { code: 403, message });
    }
    match shared.store.get(&(kind, namespace, name.clone())) {
        Some(object) => Json(&*object).into_response(),
        None => refused(&Refusal {
            code: 404,
            message: format!("\"{name}\" not found"),
        }),
    }
}

async fn create(
    State(shared): State<Arc<Shared>>,
    Path((namespace, kind)): Path<(String, String)>,
    Json(object): Json<Value>,
) -> Response {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let key = (kind, namespace, name.to_owned());
    match shared.store.create(&key, object) {
        Ok(object) => (StatusCode::CREATED, Json(&*object)).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

async fn delete(
    State(shared): State<Arc<Shared>>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
) -> Response {
    shared.store.delete(&(kind, namespace, name));
    Json(json!({"kind": "Status", "status": "Success"})).into_response()
}

async fn list_all(
    state: State<Arc<Shared>>,
    Path(kind): Path<String>,
    query: Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    list(state, Path((String::new(), kind)), query, headers).await
}

/// Answers a list or a watch.
async fn list(
    State(shared): State<Arc<Shared>>,
    Path((namespace, kind)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let selection = Selection {
        namespace,
        kind,
        labels: query.get("labelSelector").cloned().unwrap_or_default(),
        metadata_only: is_metadata_only(&headers),
    };
    if query.get("watch").is_some_and(|watch| watch == "true") {
        let after = query
            .get("resourceVersion")
            .and_then(|version| version.parse().ok());
        return watch_changes(shared, selection, after.expect("a version"));
    }
    let token = query.get("continue").cloned();
    let Some(List { mut items, version }) = token.map_or_else(
        || Some(list_now(&shared.store, &selection)),
        |token| shared.lists.lock().expect("the lists").remove(&token),
    ) else {
        let message = "the list has expired".to_owned();
        return refused(&Refusal { code: 410, message });
    };
    // The server is free to send pages of another size. All pages are of one version.
    let rest = items.split_off(items.len().min(3));
    let mut next = String::new();
    if !rest.is_empty() {
        next = fastrand::u64(..).to_string();
        let items = rest;
        let list = List { items, version };
        shared
            .lists
            .lock()
            .expect("the lists")
            .insert(next.clone(), list);
    }
    let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
    // As the API server answers for custom resources.
    let items = match items.is_empty() && selection.metadata_only {
        true => Value::Null,
        false => items.into(),
    };
    Json(json!({"metadata": metadata, "items": items})).into_response()
}

fn list_now(store: &Store, selection: &Selection) -> List {
    let (objects, version) = store.list(&selection.kind);
    let objects = objects.iter().filter(|object| selection.contains(object));
    let items = objects.map(|object| shown(object, selection.metadata_only));
    List {
        items: items.collect(),
        version,
    }
}

/// The pages of a list that are not sent yet.
#[derive(Debug)]
struct List {
    items: Vec<Value>,
    version: u64,
}

struct Selection {
    /// Empty for all namespaces.
    namespace: String,
    kind: String,
    labels: String,
    metadata_only: bool,
}

impl Selection {
    fn contains(&self, object: &Value) -> bool {
        let namespace = object["metadata"]["namespace"].as_str();
        (self.namespace.is_empty() || namespace == Some(&self.namespace))
            && selector::matches(&self.labels, object)
    }

    /// The event of a change. An object that leaves the selection is reported as deleted.
    fn event(&self, change: &Change) -> Option<Value> {
        let before = change
            .before
            .as_deref()
            .filter(|object| self.contains(object));
        let after = change
            .after
            .as_deref()
            .filter(|object| self.contains(object));
        let (kind, object) = match (before, after) {
            (None, Some(after)) => ("ADDED", after.clone()),
            (Some(_), Some(after)) => ("MODIFIED", after.clone()),
            (Some(before), None) => {
                let mut before = before.clone();
                before["metadata"]["resourceVersion"] = change.version.to_string().into();
                ("DELETED", before)
            }
            (None, None) => return None,
        };
        Some(json!({"type": kind, "object": shown(&object, self.metadata_only)}))
    }
}

/// Answers a watch: one line for each change, and a bookmark after a second without a change.
fn watch_changes(shared: Arc<Shared>, selection: Selection, after: u64) -> Response {
    let versions = shared.store.versions();
    let state = (shared, selection, after, versions);
    let lines = futures::stream::unfold(
        state,
        |(shared, selection, after, mut versions)| async move {
            if after == u64::MAX {
                // The stream ends after the error.
                return None;
            }
            loop {
                shared.connected().await;
                let (lines, version) = match shared.store.changes(&selection.kind, after) {
                    None => (expired(), u64::MAX),
                    Some((changes, version)) => {
                        let events = changes.iter().filter_map(|change| selection.event(change));
                        let mut lines = String::new();
                        for event in events {
                            lines.push_str(&event.to_string());
                            lines.push('\n');
                        }
                        (lines, version)
                    }
                };
                if !lines.is_empty() {
                    return Some((
                        Ok::<_, Infallible>(lines),
                        (shared, selection, version, versions),
                    ));
                }
                let second = Duration::from_secs(1);
                if tokio::time::timeout(second, versions.changed())
                    .await
                    .is_err()
                {
                    let line = bookmark(version);
                    shared.connected().await;
                    return Some((Ok(line), (shared, selection, version, versions)));
                }
            }
        },
    );
    (
        [("content-type", "application/json")],
        Body::from_stream(lines),
    )
        .into_response()
}

fn bookmark(version: u64) -> String {
    let version = version.to_string();
    let event = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}});
    format!("{event}\n")
}

fn expired() -> String {
    let status = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
    format!("{}\n", json!({"type": "ERROR", "object": status}))
}

async fn patch_main(
    State(shared): State<Arc<Shared>>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    patched(
        &shared,
        &(kind, namespace, name),
        Part::Main,
        &headers,
        &body,
    )
}

async fn patch_status(
    State(shared): State<Arc<Shared>>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    patched(
        &shared,
        &(kind, namespace, name),
        Part::Status,
        &headers,
        &body,
    )
}

fn patched(shared: &Shared, key: &Key, part: Part, headers: &HeaderMap, body: &Bytes) -> Response {
    let patch = merge_patch::read(headers, body);
    match shared.store.patch(key, part, &patch) {
        Ok(object) => Json(&*object).into_response(),
        Err(refusal) => refused(&refusal),
    }
}
