//! Artifacts at URLs, with the credentials that Argo has for them.

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

#[derive(Default)]
struct Web {
    put: Mutex<Vec<(String, Bytes)>>,
    asked: Mutex<Vec<(String, HeaderMap)>>,
    elsewhere: Mutex<String>,
}

impl Web {
    async fn start() -> (String, Arc<Self>) {
        let web: Arc<Self> = Arc::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&web));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (host, web)
    }

    fn header(&self, path: &str, name: &str) -> String {
        let asked = self.asked.lock().unwrap();
        let (_, headers) = asked.iter().rev().find(|(asked, _)| asked == path).unwrap();
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    }
}

async fn answer(
    State(web): State<Arc<Web>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    web.asked
        .lock()
        .unwrap()
        .push((uri.path().to_owned(), headers));
    match (method.as_str(), uri.path()) {
        ("PUT", path) => {
            web.put.lock().unwrap().push((path.to_owned(), body));
            StatusCode::CREATED.into_response()
        }
        ("POST", "/token") => json!({"access_token": "t0ken", "token_type": "bearer"})
            .to_string()
            .into_response(),
        (_, "/text" | "/private") => "one two".into_response(),
        (_, "/tgz") => packed("text", b"one two three").into_response(),
        (_, "/elsewhere") => Redirect::temporary(&web.elsewhere.lock().unwrap()).into_response(),
        (_, "/broken") => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn step(input: Value, output: Value) -> Value {
    let mut step = template("word-count");
    step["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "http": input}]});
    step["outputs"] = json!({"artifacts": [output]});
    step["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn http_artifacts_use_credentials_from_secrets() {
    let ((host, web), (other, foreign)) = (Web::start().await, Web::start().await);
    let (kubernetes, home) = (Kubernetes::start().await, tempfile::tempdir().unwrap());
    *web.elsewhere.lock().unwrap() = format!("http://{other}/text");
    let encode = |text: &str| STANDARD.encode(text);
    let token_url = format!("http://{host}/token");
    kubernetes.put(
        "secrets/web",
        json!({"data": {"user": encode("ada"), "password": encode("secret"), "url": encode(&token_url)}}),
    );
    let guests = wasm_workflow_integration::guests::directory();
    let config = json!({"sources": {"files": guests, "insecure": [host, other]}}).to_string();
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
    assert_eq!(
        web.put.lock().unwrap().last().unwrap(),
        &("/result".to_owned(), Bytes::from("one two"))
    );
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
            foreign.header("/text", "authorization"),
            foreign.header("/text", "x-own")
        ),
        Default::default(),
        "nothing goes elsewhere"
    );
    for (path, expected) in [
        ("none", "answers 404 Not Found"),
        ("broken", "answers 502 Bad Gateway, after 3 attempts"),
    ] {
        let node = executor.node(&step(at(path), out.clone())).await;
        assert!(
            message(&node).contains(&format!("(`http://{host}/{path}`): it {expected}")),
            "{node}"
        );
    }
    let node = executor
        .node(&step(json!({"url": "http://169.254.169.254/latest"}), out))
        .await;
    assert!(
        message(&node).contains("a link-local address, which requests may not reach"),
        "{node}"
    );
    assert!(
        !executor.log().contains("secret\"") && !executor.log().contains("t0ken"),
        "no secret in the log"
    );
}
