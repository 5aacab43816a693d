//! The part of a Kubernetes API server that the executor uses: reading single objects, one user
//! with a token, and RBAC that can forbid an object.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const TOKEN: &str = "the-service-accounts-token";

/// A running server. It ends with the runtime of the test.
#[derive(Debug)]
pub struct Kubernetes {
    url: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Value>>,
    forbidden: Mutex<BTreeSet<String>>,
    requests: Mutex<Vec<String>>,
}

impl Kubernetes {
    /// Starts a server on loopback, without objects.
    pub async fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let below = "namespaces/{namespace}/{resource}/{name}";
        let router = Router::new()
            .route(&format!("/api/v1/{below}"), get(answer))
            .route(&format!("/apis/argoproj.io/v1alpha1/{below}"), get(answer))
            .with_state(Arc::clone(&shared));
        let url = format!("http://{}", crate::serve(router).await);
        Self { url, shared }
    }

    /// Adds an object to the namespace `argo`. An example of a path is `secrets/regcred`.
    pub fn put(&self, path: &str, object: Value) {
        self.put_in("argo", path, object);
    }

    /// Adds an object to another namespace.
    pub fn put_in(&self, namespace: &str, path: &str, object: Value) {
        self.shared
            .objects
            .lock()
            .expect("the objects")
            .insert(format!("{namespace}/{path}"), object);
    }

    /// Adds a pull secret with this Docker configuration.
    pub fn put_pull_secret(&self, name: &str, config: &Value) {
        let data = json!({".dockerconfigjson": STANDARD.encode(config.to_string())});
        self.put(
            &format!("secrets/{name}"),
            json!({"kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "data": data}),
        );
    }

    /// Forbids reading an object of the namespace `argo`.
    pub fn forbid(&self, path: &str) {
        self.shared
            .forbidden
            .lock()
            .expect("the rules")
            .insert(format!("argo/{path}"));
    }

    /// Allows reading an object that [`forbid`](Self::forbid) had forbidden.
    pub fn allow(&self, path: &str) {
        self.shared
            .forbidden
            .lock()
            .expect("the rules")
            .remove(&format!("argo/{path}"));
    }

    /// The objects that were requested so far, as `NAMESPACE/RESOURCE/NAME`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("the list").clone()
    }

    /// The flags of the executor for this server. The kubeconfig is written into `directory`.
    pub fn flags(&self, directory: &Path) -> Vec<String> {
        let file = self.kubeconfig(directory).display().to_string();
        vec!["--kubeconfig".to_owned(), file]
    }

    /// Writes a kubeconfig for this server into `directory`, and returns its path.
    pub fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let file = directory.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "argo"}}],
        });
        std::fs::write(&file, config.to_string()).expect("a file");
        file
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    UrlPath((namespace, resource, name)): UrlPath<(String, String, String)>,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    let path = format!("{namespace}/{resource}/{name}");
    shared.requests.lock().expect("the list").push(path.clone());
    let status = |code: StatusCode, reason: &str| {
        let message = format!("{resource} \"{name}\" {reason}");
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code.as_u16()});
        (code, Json(status))
    };
    let bearer = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if bearer != Some(&format!("Bearer {TOKEN}")) {
        return status(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    if shared.forbidden.lock().expect("the rules").contains(&path) {
        return status(StatusCode::FORBIDDEN, "Forbidden");
    }
    match shared.objects.lock().expect("the objects").get(&path) {
        Some(object) => (StatusCode::OK, Json(object.clone())),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}
