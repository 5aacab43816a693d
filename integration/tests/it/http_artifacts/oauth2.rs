//! Tokens for HTTP artifacts: `http.auth.oauth2`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use url::form_urlencoded::parse;
use wasm_workflow_integration::executor::{Executor, template};
use wasm_workflow_integration::kubernetes::Kubernetes;

use super::{RecordedRequest, ScriptedServer};
use crate::message;

const ID: &str = "the client:1";
const SECRET: &str = "a+b/c%20d=";

/// The client of a token request: from the header, or from the form.
fn client(request: &RecordedRequest) -> Option<(String, String)> {
    let decoded = |text: &str| {
        let (decoded, _) = parse(text.as_bytes()).next()?;
        Some(decoded.into_owned())
    };
    if let Some(basic) = request.header("authorization").strip_prefix("Basic ") {
        let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
        let (id, secret) = pair.split_once(':')?;
        return Some((decoded(id)?, decoded(secret)?));
    }
    Some((
        field(request, "client_id")?,
        field(request, "client_secret")?,
    ))
}

fn field(request: &RecordedRequest, name: &str) -> Option<String> {
    let mut fields = parse(&request.body);
    fields
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn json_answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (
        status,
        [("content-type", "application/json")],
        body.to_string(),
    )
        .into_response()
}

fn token() -> Response {
    json_answer(
        200,
        &json!({"access_token": "t0ken", "token_type": "bearer", "expires_in": 60}),
    )
}

/// The path of the token server says how it answers.
fn answer(request: &RecordedRequest) -> Response {
    let in_header = request.header("authorization").starts_with("Basic ");
    let is_client = client(request) == Some((ID.to_owned(), SECRET.to_owned()));
    let refused = |status| json_answer(status, &json!({"error": "invalid_client"}));
    match request.path.as_str() {
        "/text" => match request.header("authorization") {
            "Bearer t0ken" | "JWT t0ken" => "one two".into_response(),
            _ => StatusCode::UNAUTHORIZED.into_response(),
        },
        "/either" | "/form" | "/form-400" | "/header" if !is_client => refused(401),
        "/form" if in_header => refused(401),
        "/form-400" if in_header => refused(400),
        "/header" if !in_header => refused(401),
        "/either" | "/form" | "/form-400" | "/header" => token(),
        "/moved" => (StatusCode::PERMANENT_REDIRECT, [("location", "/either")]).into_response(),
        "/away" => (
            StatusCode::PERMANENT_REDIRECT,
            [("location", "http://127.0.0.2:1/token")],
        )
            .into_response(),
        "/busy" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "/jwt" => json_answer(
            200,
            &json!({"access_token": "t0ken", "token_type": "JWT", "error": null}),
        ),
        "/as-form" => (
            [(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )],
            "access_token=t0ken&token_type=bearer",
        )
            .into_response(),
        "/empty" => json_answer(200, &json!({"access_token": "", "token_type": "bearer"})),
        "/null" => json_answer(200, &json!({"access_token": null})),
        "/mac" => json_answer(200, &json!({"access_token": "t0ken", "token_type": "mac"})),
        "/html" => ([("content-type", "text/html")], "<p>log in</p>").into_response(),
        "/error-200" => json_answer(
            200,
            &json!({"error": "invalid_scope", "error_description": "no such scope"}),
        ),
        "/echo" => json_answer(
            401,
            &json!({"error": "unauthorized_client", "error_description": format!("secret {SECRET} is wrong\n{}", "x".repeat(5000))}),
        ),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

struct Lab {
    web: ScriptedServer,
    executor: Executor,
    _kubernetes: Kubernetes,
    _home: tempfile::TempDir,
}

impl Lab {
    /// Starts everything. The Secret has a key for the URL of each token server.
    async fn start() -> Self {
        let web = ScriptedServer::start(answer).await;
        let kubernetes = Kubernetes::start().await;
        let home = tempfile::tempdir().unwrap();
        let encode = |text: &str| STANDARD.encode(text);
        let mut data = json!({"id": encode(ID), "secret": encode(&format!("{SECRET}\n"))});
        for path in [
            "either",
            "form",
            "form-400",
            "header",
            "moved",
            "away",
            "busy",
            "jwt",
            "as-form",
            "empty",
            "null",
            "mac",
            "html",
            "error-200",
            "echo",
        ] {
            data[path] = json!(encode(&web.url(path)));
        }
        kubernetes.put("secrets/client", json!({"data": data}));
        let guests = wasm_workflow_integration::guests::directory();
        let config = json!({"sources": {"fileRoot": guests, "insecure": [web.host]}});
        let executor = Executor::with_config(&config, kubernetes.flags(home.path()));
        Self {
            web,
            executor,
            _kubernetes: kubernetes,
            _home: home,
        }
    }

    /// Runs a step whose input needs a token of the server at `path`. `more` are further fields of
    /// `oauth2`.
    async fn node(&self, path: &str, more: Value) -> Value {
        let select = |key: &str| json!({"name": "client", "key": key});
        let mut oauth = json!({
            "clientIDSecret": select("id"), "clientSecretSecret": select("secret"),
            "tokenURLSecret": select(path),
        });
        oauth
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let http = json!({"url": self.web.url("text"), "auth": {"oauth2": oauth}});
        let mut step = template("word-count");
        step["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "http": http}]});
        step["plugin"]["wasm"]["args"] = json!(["/in/text", "/tmp/copy"]);
        self.executor.node(&step).await
    }

    /// The paths of the requests since the last call of this function.
    fn paths(&self) -> Vec<String> {
        let requests = self.web.take_requests().into_iter();
        requests.map(|request| request.path).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_credentials_are_encoded_in_the_header_and_then_sent_in_the_form() {
    let lab = Lab::start().await;
    for (path, requests) in [
        ("either", vec!["/either", "/text"]),
        ("header", vec!["/header", "/text"]),
        ("form", vec!["/form", "/form", "/text"]),
        ("form-400", vec!["/form-400", "/form-400", "/text"]),
        ("moved", vec!["/moved", "/either", "/text"]),
        ("jwt", vec!["/jwt", "/text"]),
        ("as-form", vec!["/as-form", "/text"]),
    ] {
        let node = lab.node(path, json!({})).await;
        assert_eq!(node["outputs"]["result"], "2", "{path}: {node}");
        assert_eq!(lab.paths(), requests, "{path}");
    }
    // The place that a server accepts is known. Another scope is another store, with its own token.
    let node = lab.node("form", json!({"scopes": ["read", "write"]})).await;
    assert_eq!(node["outputs"]["result"], "2", "{node}");
    let requests = lab.web.take_requests();
    assert_eq!(
        requests.len(),
        2,
        "the credentials are sent in the form at once"
    );
    assert_eq!(field(&requests[0], "scope").unwrap(), "read write");
    assert_eq!(
        field(&requests[0], "grant_type").unwrap(),
        "client_credentials"
    );
    assert!(!lab.executor.log().contains("t0ken") && !lab.executor.log().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_params_replace_only_the_grant_type() {
    let lab = Lab::start().await;
    let params = json!({"endpointParams": [{"key": "grant_type", "value": "password"}, {"key": "audience", "value": "a b"}]});
    let node = lab.node("either", params).await;
    assert_eq!(node["outputs"]["result"], "2", "{node}");
    let request = lab.web.take_requests().remove(0);
    assert_eq!(request.body(), "grant_type=password&audience=a+b");
    let both = json!({"scopes": ["a"], "endpointParams": [{"key": "scope", "value": "b"}]});
    let node = lab.node("either", both).await;
    assert!(message(&node).contains("both set `scope`"), "{node}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_says_why() {
    let lab = Lab::start().await;
    for (path, expected) in [
        ("empty", "sends no `access_token`"),
        ("null", "sends no `access_token`"),
        (
            "mac",
            "sends a token of the type `mac`, which is not supported",
        ),
        ("html", "sends no token, but `text/html`"),
        ("error-200", "answers 200 OK (invalid_scope: no such scope)"),
        (
            "echo",
            "answers 401 Unauthorized (unauthorized_client: secret … is wrong",
        ),
        (
            "away",
            "redirects to `http://127.0.0.2:1`, which is another server",
        ),
        ("busy", "answers 503 Service Unavailable"),
    ] {
        let node = lab.node(path, json!({})).await;
        assert_eq!(node["phase"], "Error", "{path}: {node}");
        let seen = message(&node);
        assert!(seen.contains(expected), "{path}: {seen}");
        assert!(!seen.contains("a+b") && seen.len() < 700, "{path}: {seen}");
    }
}
