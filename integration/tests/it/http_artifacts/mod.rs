//! Artifacts at URLs, with the credentials that Argo supports for them.

mod codings;
mod oauth2;
mod redirects;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::kubernetes::Kubernetes;

use crate::{message, packed};

/// A web server that records its requests. It ends with the runtime of the test.
struct WebServer {
    /// Address of the server: `127.0.0.1:PORT`.
    host: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<RecordedRequest>>,
    /// Location to which the path `/elsewhere` redirects.
    redirect: Mutex<String>,
}

struct RecordedRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl RecordedRequest {
    /// Value of a header; empty if the request has no such header.
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    fn body(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

type Answer = dyn Fn(&RecordedRequest) -> Response + Send + Sync;

/// A web server whose answers a function makes. It ends with the runtime of the test.
struct ScriptedServer {
    /// Address of the server: `127.0.0.1:PORT`.
    host: String,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
}

impl ScriptedServer {
    async fn start(answer: impl Fn(&RecordedRequest) -> Response + Send + Sync + 'static) -> Self {
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
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let router = Router::new()
            .fallback(handler)
            .layer(axum::extract::DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(listener, router).await });
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
    Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::default()
    })
}

impl WebServer {
    async fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { host, shared }
    }

    /// Value of a header in the last request for a path; empty if the request has no such header.
    fn header(&self, path: &str, name: &str) -> String {
        let requests = self.shared.requests.lock().unwrap();
        let request = requests.iter().rev().find(|request| request.path == path);
        request
            .unwrap()
            .headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.requests.lock().unwrap().push(RecordedRequest {
        method: method.clone(),
        path: uri.path().to_owned(),
        headers,
        body,
    });
    match (method.as_str(), uri.path()) {
        ("PUT", _) => StatusCode::CREATED.into_response(),
        ("POST", "/token") => json!({"access_token": "t0ken", "token_type": "bearer"})
            .to_string()
            .into_response(),
        (_, "/text" | "/private") => "one two".into_response(),
        (_, "/tgz") => packed("text", b"one two three").into_response(),
        (_, "/elsewhere") => Redirect::temporary(&shared.redirect.lock().unwrap()).into_response(),
        (_, "/broken") => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
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
    let web = WebServer::start().await;
    let other = WebServer::start().await;
    let host = web.host.clone();
    let kubernetes = Kubernetes::start().await;
    let home = tempfile::tempdir().unwrap();
    *web.shared.redirect.lock().unwrap() = format!("http://{}/text", other.host);
    let encode = |text: &str| STANDARD.encode(text);
    let token_url = format!("http://{host}/token");
    kubernetes.put(
        "secrets/web",
        json!({"data": {"user": encode("ada"), "password": encode("secret"), "url": encode(&token_url)}}),
    );
    let guests = wasm_workflow_integration::guests::directory();
    let config =
        json!({"sources": {"fileRoot": guests, "insecure": [host, other.host]}}).to_string();
    let flags = vec![
        "--kubeconfig".to_owned(),
        kubernetes.kubeconfig(home.path()).display().to_string(),
    ];
    let executor = Executor::start_with(Options {
        config: Some(config),
        flags,
        ..Options::default()
    });
    let select = |key: &str| json!({"name": "web", "key": key});
    let basic = json!({"basicAuth": {"usernameSecret": select("user"), "passwordSecret": select("password")}});
    let oauth = json!({"oauth2": {"clientIDSecret": select("user"), "clientSecretSecret": select("password"), "tokenURLSecret": select("url"), "scopes": ["read"]}});
    let at = |path: &str| json!({"url": format!("http://{host}/{path}")});
    let with = |path: &str, auth: &Value| json!({"url": format!("http://{host}/{path}"), "auth": auth, "headers": [{"name": "X-Own", "value": "mine"}]});
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
    {
        let requests = web.shared.requests.lock().unwrap();
        let put = requests
            .iter()
            .rev()
            .find(|request| request.method == Method::PUT)
            .unwrap();
        assert_eq!(
            (put.path.as_str(), &put.body),
            ("/result", &Bytes::from("one two"))
        );
    }
    assert_eq!(
        web.header("/result", "authorization"),
        format!("Basic {}", encode("ada:secret"))
    );
    assert_eq!(
        (
            web.header("/private", "authorization"),
            web.header("/private", "x-own")
        ),
        ("Bearer t0ken".to_owned(), "mine".to_owned())
    );
    assert_eq!(
        web.header("/token", "authorization"),
        format!("Basic {}", encode("ada:secret"))
    );
    assert_eq!(
        (
            other.header("/text", "authorization"),
            other.header("/text", "x-own")
        ),
        Default::default(),
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
