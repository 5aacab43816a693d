//! Registries of all makes: challenges and tokens, refused methods, pages, indexes inside indexes,
//! mirrors with a path, and IPv6 addresses.

mod addresses;
mod challenges;
mod heads;
mod indexes;
mod mirrors;
mod pages;
mod scopes;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sources::Digest;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::guest;

use crate::cli::{Cli, text};
use crate::{message, template_of_module};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn noop() -> Vec<u8> {
    std::fs::read(guest("noop-command")).unwrap()
}

/// A document of a registry.
#[derive(Clone)]
struct Document {
    media_type: &'static str,
    text: String,
}

impl Document {
    fn digest(&self) -> String {
        Digest::of(self.text.as_bytes()).to_string()
    }

    /// The entry of an index for this document.
    fn entry(&self, platform: Option<(&str, &str)>) -> Value {
        let mut entry =
            json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.text.len()});
        if let Some((os, architecture)) = platform {
            entry["platform"] = json!({"os": os, "architecture": architecture});
        }
        entry
    }

    /// An index with these entries.
    fn index(entries: &[Value]) -> Self {
        let text =
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
        Self {
            media_type: INDEX,
            text,
        }
    }

    /// A manifest in the CNCF layout, with the module `noop-command`.
    fn module() -> Self {
        let module = noop();
        let config = json!({"mediaType": "application/vnd.wasm.config.v0+json", "digest": Digest::of(b"{}"), "size": 2});
        let layer = json!({"mediaType": "application/wasm", "digest": Digest::of(&module), "size": module.len()});
        let text =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        Self {
            media_type: MANIFEST,
            text: text.to_string(),
        }
    }
}

/// A request to a [`Server`].
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// The server's own address, from the header `Host`.
    host: String,
}

impl Asked {
    fn path(&self) -> &str {
        self.uri.path()
    }

    fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// The value of `Authorization`, or an empty text.
    fn authorization(&self) -> &str {
        let value = self.headers.get("authorization");
        value.map_or("", |value| value.to_str().unwrap())
    }
}

type Hook = Box<dyn Fn(&Asked) -> Option<Response> + Send + Sync>;

struct Shared {
    hook: Hook,
    documents: BTreeMap<String, Document>,
    top: String,
    requests: Mutex<Vec<String>>,
}

/// A registry that has the same documents under every repository, and the last document under every
/// tag. It ends with the runtime of the test.
struct Server {
    host: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts a registry with one module. `hook` may answer a request in another way.
    async fn start(hook: impl Fn(&Asked) -> Option<Response> + Send + Sync + 'static) -> Self {
        Self::with_documents(vec![Document::module()], hook).await
    }

    async fn with_documents(
        documents: Vec<Document>,
        hook: impl Fn(&Asked) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            hook: Box::new(hook),
            top: documents.last().unwrap().digest(),
            documents: documents
                .into_iter()
                .map(|document| (document.digest(), document))
                .collect(),
            requests: Mutex::default(),
        });
        let router = Router::new()
            .route("/{*path}", any(answer))
            .with_state(Arc::clone(&shared));
        let host = wasm_workflow_integration::serve(router).await;
        Self { host, shared }
    }

    /// The requests since the last call of this function: method, path and query.
    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }

    /// Pushes a module to this registry, and returns the output of the command.
    async fn push(&self, cli: Cli) -> Output {
        let host = self.host.clone();
        let push = move || {
            let module = guest("greeting");
            let reference = format!("{host}/acme/m:1");
            let flags = ["--insecure-registry", &host];
            cli.run(&[&["push", text(&module), &reference], &flags[..]].concat())
        };
        tokio::task::spawn_blocking(push).await.unwrap()
    }

    /// Runs a module of this registry in a new executor, and returns the node.
    async fn run(&self, repository: &str) -> Value {
        self.run_with(&json!({}), repository).await
    }

    /// Runs a module with the credentials of a Docker configuration.
    async fn run_with(&self, docker_config: &Value, repository: &str) -> Value {
        let config = json!({"sources": {"insecure": [self.host]}});
        let module = json!({"oci": format!("{}/{repository}", self.host)});
        run(&config, docker_config, module).await
    }
}

/// Runs a module in a new executor with these configurations, and returns the node.
async fn run(config: &Value, docker_config: &Value, module: Value) -> Value {
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: vec![("DOCKER_AUTH_CONFIG".to_owned(), docker_config.to_string())],
        ..Options::default()
    });
    executor.node(&template_of_module(module)).await
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared
        .requests
        .lock()
        .unwrap()
        .push(format!("{method} {uri}"));
    let host = headers["host"].to_str().unwrap().to_owned();
    let asked = Asked {
        method,
        uri,
        headers,
        body,
        host,
    };
    if let Some(answer) = (shared.hook)(&asked) {
        return answer;
    }
    let (folder, name) = asked.path().rsplit_once('/').unwrap();
    if folder.ends_with("/manifests") {
        let document = shared.documents.get(name);
        let document = document.unwrap_or_else(|| &shared.documents[&shared.top]);
        return (
            [
                ("content-type", document.media_type.to_owned()),
                ("docker-content-digest", document.digest()),
            ],
            document.text.clone(),
        )
            .into_response();
    }
    let blobs: HashMap<String, Vec<u8>> = [noop(), b"{}".to_vec()]
        .into_iter()
        .map(|blob| (Digest::of(&blob).to_string(), blob))
        .collect();
    match blobs.get(name) {
        Some(blob) if folder.ends_with("/blobs") => blob.clone().into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The answer 401 with these values of `WWW-Authenticate`.
fn challenge(values: &[String]) -> Response {
    let mut answer = StatusCode::UNAUTHORIZED.into_response();
    for value in values {
        answer
            .headers_mut()
            .append("www-authenticate", value.parse().unwrap());
    }
    answer
}

/// Docker configuration for one registry and `USER:PASSWORD`.
fn docker_config(host: &str, pair: &str) -> Value {
    json!({"auths": {host: {"auth": STANDARD.encode(pair)}}})
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

fn assert_ran(node: &Value, what: &str) {
    assert_eq!(node["phase"], "Succeeded", "{what}: {node}");
}

fn assert_error(node: &Value, expected: &str) {
    assert_eq!(node["phase"], "Error", "{node}");
    assert!(message(node).contains(expected), "{expected}: {node}");
}
