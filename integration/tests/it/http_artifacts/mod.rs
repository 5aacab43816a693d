//! Artifacts at URLs, with the credentials that Argo supports for them.

mod codings;
mod oauth2;
mod redirects;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, template};
use wasm_workflow_integration::kubernetes::Kubernetes;

use crate::{message, packed};

/// A request to a [`ScriptedServer`].
pub(crate) struct RecordedRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl RecordedRequest {
    /// Value of a header; empty if the request has no such header.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

type Answer = dyn Fn(&RecordedRequest) -> Response + Send + Sync;

/// A web server whose answers a function makes. It ends with the runtime of the test.
pub(crate) struct ScriptedServer {
    /// Address of the server: `127.0.0.1:PORT`.
    pub(crate) host: String,
    pub(crate) requests: Arc<Mutex<Vec<RecordedRequest>>>,
}

impl ScriptedServer {
    pub(crate) async fn start(
        answer: impl Fn(&RecordedRequest) -> Response + Send + Sync + 'static,
    ) -> Self {
        let requests: Arc<Mutex<Vec<RecordedRequest>>> = Arc::default();
        let recorded = Arc::clone(&requests);
        let answer: Arc<Answer> = Arc::new(answer);
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let request = RecordedRequest {
                method,
                path: uri.path().to_owned(),
                headers,
                body,
            };
            let response = answer(&request);
            recorded.lock().unwrap().push(request);
            async move { response }
        };
        let router = Router::new()
            .fallback(handler)
            .layer(axum::extract::DefaultBodyLimit::disable());
        let host = wasm_workflow_integration::serve(router).await;
        Self { host, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.host)
    }

    /// The requests since the last call of this function.
    fn take_requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// Starts an executor that may reach these hosts on this machine.
fn executor(hosts: &[&str]) -> Executor {
    let guests = wasm_workflow_integration::guests::directory();
    let config = json!({"sources": {"fileRoot": guests, "insecure": hosts}});
    Executor::with_config(&config, Vec::new())
}

/// The answer to a request. `/elsewhere` redirects to `redirect`.
fn answer(request: &RecordedRequest, redirect: &str) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", _) => StatusCode::CREATED.into_response(),
        ("POST", "/token") => json!({"access_token": "t0ken", "token_type": "bearer"})
            .to_string()
            .into_response(),
        (_, "/text" | "/private") => "one two".into_response(),
        (_, "/tgz") => packed("text", b"one two three").into_response(),
        (_, "/elsewhere") => Redirect::temporary(redirect).into_response(),
        (_, "/broken") => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The last request for a path.
fn last<'a>(requests: &'a [RecordedRequest], path: &str) -> &'a RecordedRequest {
    let mut requests = requests.iter();
    requests.rfind(|request| request.path == path).unwrap()
}

/// Template of `word-count` with an input at a URL and one output.
fn step(input: Value, output: Value) -> Value {
    let mut step = template("word-count");
    step["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "http": input}]});
    step["outputs"] = json!({"artifacts": [output]});
    step["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn http_artifacts_use_credentials_from_secrets() {
    let other = ScriptedServer::start(|request| answer(request, "")).await;
    let elsewhere = other.url("text");
    let web = ScriptedServer::start(move |request| answer(request, &elsewhere)).await;
    let host = &web.host;
    let kubernetes = Kubernetes::start().await;
    let home = tempfile::tempdir().unwrap();
    let encode = |text: &str| STANDARD.encode(text);
    kubernetes.put(
        "secrets/web",
        json!({"data": {"user": encode("ada"), "password": encode("secret"), "url": encode(&web.url("token"))}}),
    );
    let guests = wasm_workflow_integration::guests::directory();
    let config = json!({"sources": {"fileRoot": guests, "insecure": [host, other.host]}});
    let executor = Executor::with_config(&config, kubernetes.flags(home.path()));
    let select = |key: &str| json!({"name": "web", "key": key});
    let basic = json!({"basicAuth": {"usernameSecret": select("user"), "passwordSecret": select("password")}});
    let oauth = json!({"oauth2": {"clientIDSecret": select("user"), "clientSecretSecret": select("password"), "tokenURLSecret": select("url"), "scopes": ["read"]}});
    let at = |path: &str| json!({"url": web.url(path)});
    let with = |path: &str, auth: &Value| json!({"url": web.url(path), "auth": auth, "headers": [{"name": "X-Own", "value": "mine"}]});
    let out = json!({"name": "copy", "path": "/out/copy", "archive": {"none": {}}, "http": with("result", &basic)});
    for (input, words) in [
        (at("text"), "2"),
        (at("tgz"), "3"),
        (with("private", &basic), "2"),
        (with("elsewhere", &basic), "2"),
        (with("private", &oauth), "2"),
    ] {
        let node = executor.node(&step(input.clone(), out.clone())).await;
        assert_eq!(node["outputs"]["result"], words, "{input}: {node}");
        assert_eq!(
            node["outputs"]["artifacts"][0]["http"], out["http"],
            "{node}"
        );
    }
    let requests = web.take_requests();
    let put = last(&requests, "/result");
    assert_eq!((put.method.as_str(), put.body()), ("PUT", "one two"));
    let basic = format!("Basic {}", encode("ada:secret"));
    assert_eq!(put.header("authorization"), basic);
    assert_eq!(last(&requests, "/token").header("authorization"), basic);
    let private = last(&requests, "/private");
    assert_eq!(
        [private.header("authorization"), private.header("x-own")],
        ["Bearer t0ken", "mine"]
    );
    let requests = other.take_requests();
    let elsewhere = last(&requests, "/text");
    assert_eq!(
        [elsewhere.header("authorization"), elsewhere.header("x-own")],
        ["", ""],
        "neither credentials nor headers are sent to another host"
    );
    for (path, expected) in [
        ("none", "answers 404 Not Found"),
        ("broken", "answers 502 Bad Gateway, after 3 attempts"),
    ] {
        let node = executor.node(&step(at(path), out.clone())).await;
        assert!(
            message(&node).contains(&format!("(`http://{host}/{path}`): the server {expected}")),
            "{node}"
        );
    }
    let node = executor
        .node(&step(json!({"url": "http://169.254.169.254/latest"}), out))
        .await;
    assert!(
        message(&node)
            .contains("(a link-local address), and requests to such addresses are refused"),
        "{node}"
    );
    assert!(
        !executor.log().contains("secret\"") && !executor.log().contains("t0ken"),
        "no secret in the log"
    );
}
