//! `http` templates, with `--http-templates`. The expected behaviour is that of Argo's agent.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use wasm_workflow_integration::eventually;

use super::*;
use crate::http_artifacts::{RecordedRequest, ScriptedServer};

/// A cluster with a replica that runs `http` templates, and a web server that the replica may
/// reach.
struct Web {
    cluster: Cluster,
    server: ScriptedServer,
    replica: Executor,
}

impl Web {
    async fn start(answer: impl Fn(&RecordedRequest) -> Response + Send + Sync + 'static) -> Self {
        let cluster = Cluster::start().await;
        let server = ScriptedServer::start(answer).await;
        let flags = ["--http-templates", "--insecure-registry", &server.host];
        let replica = cluster.replica("r1", &flags);
        Self {
            cluster,
            server,
            replica,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.host)
    }

    /// Runs one `http` template as a workflow of this name, and returns its node.
    async fn run(&self, name: &str, http: Value) -> Value {
        self.run_template(name, json!({"name": "h", "http": http}))
            .await
    }

    async fn run_template(&self, name: &str, template: Value) -> Value {
        self.cluster.submit(name, vec![round(name, 1, &template)]);
        let state = self.cluster.ended(name).await;
        state.ended[&format!("{name}-0")].clone()
    }
}

/// A Secret with the key `value`, and the account that may read it.
fn put_secret(cluster: &Cluster, namespace: &str, value: &str) {
    let secret = ("secrets".into(), namespace.into(), "token".into());
    let data = json!({"data": {"value": STANDARD.encode(value)}});
    cluster.store.create(&secret, data).unwrap();
    let name = "wasm-executor-plugin".to_owned();
    let account = ("serviceaccounts".into(), namespace.into(), name);
    cluster.store.create(&account, json!({})).unwrap();
}

/// A header whose value is the one of [`put_secret`].
fn secret_header(name: &str) -> Value {
    json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "token", "key": "value"}}})
}

fn text(node: &Value) -> String {
    node["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_is_sent_and_the_body_is_the_result() {
    let web =
        Web::start(|_| (StatusCode::CREATED, [("x-seen", "yes")], "made").into_response()).await;
    put_secret(&web.cluster, "team", "Bearer from-secret");
    let node = web
        .run(
            "post",
            json!({
                "url": web.url("/things?a=b"), "method": "POST", "body": "content",
                "headers": [
                    {"name": "X-Kind", "value": "test"},
                    {"name": "Host", "value": "virtual.example"},
                    {"name": "Content-Length", "value": "1"},
                    secret_header("Authorization"),
                ],
            }),
        )
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert_eq!(node["outputs"]["result"], "made");
    let bytes = STANDARD.encode([0_u8, 1, 2]);
    let http = json!({"url": web.url("/bytes"), "method": "PUT", "bodyFrom": {"bytes": bytes}});
    assert_eq!(web.run("bytes", http).await["phase"], "Succeeded");
    let url = web.url("/empty").replace("://", "://user:p%40ss@");
    let http = json!({"url": url, "method": "POST"});
    assert_eq!(web.run("empty", http).await["phase"], "Succeeded");
    let requests = web.server.requests.lock().unwrap();
    let empty = &requests[2];
    assert_eq!(empty.header("content-length"), "0");
    let login = STANDARD.encode("user:p@ss");
    assert_eq!(empty.header("authorization"), format!("Basic {login}"));
    let sent = &requests[0];
    assert_eq!(
        (sent.method.as_str(), sent.path.as_str()),
        ("POST", "/things")
    );
    assert_eq!(sent.body(), "content");
    assert_eq!(sent.header("x-kind"), "test");
    assert_eq!(sent.header("host"), "virtual.example");
    assert_eq!(sent.header("content-length"), "7");
    assert_eq!(sent.header("authorization"), "Bearer from-secret");
    assert_eq!(&*requests[1].body, [0, 1, 2]);
    assert!(!web.replica.log().contains("from-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_or_the_condition_decides() {
    let web = Web::start(|request| {
        let status = request.path.trim_start_matches('/').parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        (
            status,
            [("x-count", "3")],
            r#"{"items": [1, 2], "ok": true}"#,
        )
            .into_response()
    })
    .await;
    let cases = [
        ("200", "", "Succeeded", ""),
        ("404", "", "Failed", "received non-2xx response code: 404"),
        ("404", "response.statusCode == 404", "Succeeded", ""),
        (
            "200",
            "response.statusCode in [201, 202]",
            "Failed",
            "evaluated false",
        ),
        ("200", r#"response.body contains "items""#, "Succeeded", ""),
        (
            "200",
            "fromJSON(response.body).ok && len(fromJSON(response.body).items) == 2",
            "Succeeded",
            "",
        ),
        (
            "200",
            r#"response.headers["X-Count"][0] == "3""#,
            "Succeeded",
            "",
        ),
        (
            "200",
            r#"request.method == "GET" && request.url endsWith "200""#,
            "Succeeded",
            "",
        ),
        (
            "200",
            r#"request.headers["A"][0] matches "^b+$""#,
            "Succeeded",
            "",
        ),
        (
            "200",
            "response.body",
            "Failed",
            "its value is not a boolean",
        ),
        ("200", "response.", "Failed", "cannot be evaluated"),
        (
            "200",
            "len(0..9000000000000000000) > 0",
            "Failed",
            "the evaluation panicked",
        ),
        (
            "200",
            "len(map(0..40000000, # + 1)) > 0",
            "Failed",
            "the condition needs more memory than 64Mi",
        ),
        (
            "200",
            "all(0..20000, {all(0..20000, {# >= 0})})",
            "Failed",
            "the condition needs more processor time than 2 s",
        ),
    ];
    for (number, (status, condition, phase, message)) in cases.into_iter().enumerate() {
        let http = json!({
            "url": web.url(&format!("/{status}")), "method": "GET", "successCondition": condition,
            "headers": [{"name": "A", "value": "bbb"}],
        });
        let node = web.run(&format!("case-{number}"), http).await;
        assert_eq!(node["phase"], phase, "{condition}: {node}");
        assert!(text(&node).contains(message), "{condition}: {node}");
    }
    let deep = format!("{}1{} == 1", "(".repeat(20_000), ")".repeat(20_000));
    let http = json!({"url": web.url("/200"), "successCondition": deep});
    let node = web.run("deep", http).await;
    assert!(text(&node).contains("cannot be evaluated"), "{node}");
    assert_eq!(web.replica.probe("/healthz").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_as_in_go_and_secrets_stay_at_their_server() {
    let other = ScriptedServer::start(|_| "other".into_response()).await;
    let elsewhere = format!("http://{}/end", other.host);
    let web = Web::start(move |request| match request.path.as_str() {
        "/see-other" => Redirect::to("/end").into_response(),
        "/temporary" => Redirect::temporary("/end").into_response(),
        "/elsewhere" => Redirect::temporary(&elsewhere).into_response(),
        "/loop" => Redirect::temporary("/loop").into_response(),
        _ => "end".into_response(),
    })
    .await;
    for (name, path) in [("see-other", "/see-other"), ("temporary", "/temporary")] {
        let http = json!({"url": web.url(path), "method": "POST", "body": "content"});
        assert_eq!(web.run(name, http).await["outputs"]["result"], "end");
    }
    let node = web.run("loop", json!({"url": web.url("/loop")})).await;
    assert_eq!(node["phase"], "Failed");
    assert!(
        text(&node).contains("redirects more than 10 times"),
        "{node}"
    );
    {
        let requests = web.server.requests.lock().unwrap();
        let ends: Vec<_> = requests
            .iter()
            .filter(|request| request.path == "/end")
            .collect();
        assert_eq!((ends[0].method.as_str(), ends[0].body()), ("GET", ""));
        assert_eq!(
            (ends[1].method.as_str(), ends[1].body()),
            ("POST", "content")
        );
    }
    // The other server is on this machine, and not listed: the guard refuses it.
    let headers = json!([
        {"name": "Authorization", "value": "secret"}, {"name": "X-A", "value": "a"}, secret_header("X-Key"),
    ]);
    put_secret(&web.cluster, "team", "key");
    put_secret(&web.cluster, "wide", "key");
    let http = json!({"url": web.url("/elsewhere"), "headers": headers});
    let node = web.run("elsewhere", http.clone()).await;
    assert_eq!(node["phase"], "Failed");
    assert!(
        text(&node).contains("requests to such addresses are refused"),
        "{node}"
    );
    assert!(other.requests.lock().unwrap().is_empty());
    let flags = [
        "--http-templates",
        "--insecure-registry",
        "127.0.0.1",
        "--namespace",
        "wide",
    ];
    let _wide = web.cluster.replica("wide", &flags);
    web.cluster.submit_in(
        "wide",
        "allowed",
        vec![round("allowed", 1, &json!({"name": "h", "http": http}))],
    );
    drop(web.replica);
    let state = web.cluster.ended("allowed").await;
    assert_eq!(state.ended["allowed-0"]["outputs"]["result"], "other");
    let requests = other.requests.lock().unwrap();
    assert_eq!(requests[0].header("authorization"), "");
    assert_eq!(requests[0].header("x-key"), "");
    assert_eq!(requests[0].header("x-a"), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_and_limits_name_the_key() {
    let web = Web::start(|request| match request.path.as_str() {
        "/slow" => {
            std::thread::sleep(Duration::from_secs(4));
            "late".into_response()
        }
        "/large" => "x".repeat(100 << 10).into_response(),
        _ => "ok".into_response(),
    })
    .await;
    let cases = [
        (
            json!({"url": web.url("/slow"), "timeoutSeconds": 1}),
            "Failed",
            "time limit of 1s exceeded (`timeoutSeconds`)",
        ),
        (
            json!({"url": web.url("/large")}),
            "Failed",
            "the response is larger than 64Ki (`limits.result`)",
        ),
        (
            json!({"url": "ftp://a/b"}),
            "Failed",
            "must begin with `https://`",
        ),
        (
            json!({"url": web.url("/"), "headers": [{"name": "a b", "value": "c"}]}),
            "Failed",
            "`a b` cannot be the name of a header",
        ),
        (
            json!({"url": web.url("/"), "headers": [{"name": "a", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "Failed",
            "Secret `s`",
        ),
        (
            json!({"url": "http://169.254.169.254/latest"}),
            "Failed",
            "requests to such addresses are refused",
        ),
        (
            json!({"url": web.url("/"), "methodd": "GET"}),
            "Error",
            "`template.http`: unknown key `methodd`",
        ),
    ];
    for (number, (http, phase, message)) in cases.into_iter().enumerate() {
        let node = web.run(&format!("case-{number}"), http).await;
        assert_eq!(node["phase"], phase, "{node}");
        assert!(text(&node).contains(message), "{node}");
    }
    let slow = json!({"name": "h", "timeout": "1s", "http": {"url": web.url("/slow")}});
    let node = web.run_template("timeout", slow).await;
    assert_eq!(node["phase"], "Failed", "{node}");
    assert!(
        text(&node).contains("time limit of 1s exceeded (`timeout`)"),
        "{node}"
    );
}

/// Sets a value when it is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Argo's controller removes the tasks of a stopped workflow. Then the executor cancels the
/// request.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_a_stopped_workflow_is_cancelled() {
    let is_closed = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&is_closed);
    let web = Web::start(move |_| {
        let connection = SetOnDrop(Arc::clone(&closed));
        let endless = futures::stream::once(async move {
            let _connection = connection;
            std::future::pending::<Result<&str, Infallible>>().await
        });
        Body::from_stream(endless).into_response()
    })
    .await;
    let template = json!({"name": "h", "http": {"url": web.url("/endless")}});
    let rounds = vec![round("stopped", 1, &template)];
    web.cluster.submit("stopped", rounds);
    let requests = &web.server.requests;
    eventually("the request", async || !requests.lock().unwrap().is_empty()).await;
    assert!(!is_closed.load(Ordering::Relaxed), "the request waits");
    web.cluster.controller.stop("stopped");
    eventually("the end of the connection", async || {
        is_closed.load(Ordering::Relaxed)
    })
    .await;
}

/// As in Go's client, which Argo's agent uses.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_response_is_decompressed_unless_the_template_asks_for_a_coding() {
    let web = Web::start(|_| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"plain text").unwrap();
        ([("content-encoding", "gzip")], gzip.finish().unwrap()).into_response()
    })
    .await;
    let node = web.run("undone", json!({"url": web.url("/")})).await;
    assert_eq!(node["outputs"]["result"], "plain text", "{node}");
    let headers = json!([{"name": "Accept-Encoding", "value": "gzip"}]);
    let http = json!({"url": web.url("/"), "headers": headers});
    let node = web.run("kept", http).await;
    let result = node["outputs"]["result"].as_str().unwrap();
    assert!(result.starts_with('\u{1f}'), "{result:?}");
}

/// Without the flag, `http` templates belong to Argo's agent (`tasks_of_others_are_never_touched`).
/// With the flag, one Workflow has both kinds.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_has_both_kinds_of_tasks() {
    let web = Web::start(|_| "ok".into_response()).await;
    let mut both = round("wasm", 3, &noop());
    let http = json!({"name": "h", "http": {"url": web.url("/")}});
    both.extend(round("http", 3, &http));
    web.cluster.submit("both", vec![both]);
    let state = web.cluster.ended("both").await;
    assert_eq!(state.ended.len(), 6);
    let succeeded = |node: &Value| node["phase"] == "Succeeded";
    assert!(state.ended.values().all(succeeded), "{state:?}");
    assert_eq!(web.server.requests.lock().unwrap().len(), 3);
}

/// A web server with a certificate that no authority has issued. It is killed when the value is
/// dropped.
struct TlsServer {
    process: Child,
    host: String,
    _directory: TempDir,
}

impl TlsServer {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout key -out cert";
        let openssl = || {
            let mut openssl = Command::new("openssl");
            openssl.current_dir(&directory).stderr(Stdio::null());
            openssl
        };
        assert!(openssl().args(key.split(' ')).status().unwrap().success());
        let server = "s_server -www -key key -cert cert -accept 127.0.0.1:0";
        let mut process = openssl()
            .args(server.split(' '))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let host = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned));
        // The server writes more lines while it runs.
        std::thread::spawn(move || lines.count());
        Self {
            process,
            host: host.unwrap(),
            _directory: directory,
        }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_verified_unless_the_template_says_otherwise() {
    let server = TlsServer::start();
    let cluster = Cluster::start().await;
    let flags = ["--http-templates", "--insecure-registry", &server.host];
    let _replica = cluster.replica("r1", &flags);
    for (name, skip, phase) in [
        ("verified", false, "Failed"),
        ("unverified", true, "Succeeded"),
    ] {
        let http = json!({"url": format!("https://{}/", server.host), "insecureSkipVerify": skip});
        let template = json!({"name": "h", "http": http});
        cluster.submit(name, vec![round(name, 1, &template)]);
        let state = cluster.ended(name).await;
        let node = &state.ended[&format!("{name}-0")];
        assert_eq!(node["phase"], phase, "{node}");
    }
}
