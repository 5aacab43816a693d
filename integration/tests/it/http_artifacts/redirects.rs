//! Redirects of HTTP artifacts.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wasm_workflow_integration::executor::template;

use super::{RecordedRequest, ScriptedServer, executor};
use crate::message;

fn redirect(status: u16, location: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("location", location)]).into_response()
}

/// `/STATUS/…` redirects to `/…`. `/loop` redirects to itself.
fn answer(request: &RecordedRequest) -> Response {
    let mut segments = request.path.trim_start_matches('/').splitn(2, '/');
    let first = segments.next().unwrap_or_default();
    match (first.parse::<u16>(), request.method.as_str()) {
        (Ok(status), _) => redirect(status, &format!("/{}", segments.next().unwrap_or_default())),
        (Err(_), _) if first == "loop" => redirect(307, "/loop"),
        (Err(_), _) if first == "metadata" => redirect(307, "http://169.254.169.254/latest"),
        (Err(_), _) if first == "nowhere" => StatusCode::TEMPORARY_REDIRECT.into_response(),
        (Err(_), "PUT") => StatusCode::CREATED.into_response(),
        _ => "one two".into_response(),
    }
}

/// Template that writes `text` to an artifact at the URL.
fn write(text: &str, archive: Value, http: Value) -> Value {
    let mut step = template("word-count");
    step["inputs"] =
        json!({"artifacts": [{"name": "text", "path": "/in/text", "raw": {"data": text}}]});
    step["outputs"] = json!({"artifacts": [{"name": "copy", "path": "/out/copy", "archive": archive, "http": http}]});
    step["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
    step
}

fn read(url: String) -> Value {
    let mut step = template("word-count");
    step["inputs"] =
        json!({"artifacts": [{"name": "text", "path": "/in/text", "http": {"url": url}}]});
    step["plugin"]["wasm"]["args"] = json!(["/in/text", "/tmp/copy"]);
    step
}

/// Requests of a server, as `METHOD PATH LENGTH`.
fn summary(server: &ScriptedServer) -> Vec<String> {
    let requests = server.take_requests().into_iter();
    let line = |request: RecordedRequest| {
        format!("{} {} {}", request.method, request.path, request.body.len())
    };
    requests.map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_follows_redirects_with_its_content() {
    let web = ScriptedServer::start(answer).await;
    let executor = executor(&[&web.host]);
    let none = json!({"none": {}});
    for statuses in ["307", "308", "301", "302", "307/308/307"] {
        let url = web.url(&format!("{statuses}/result"));
        let node = executor
            .node(&write("a b c", none.clone(), json!({"url": url})))
            .await;
        assert_eq!(node["phase"], "Succeeded", "{statuses}: {node}");
        let requests = summary(&web);
        assert_eq!(requests.last().unwrap(), "PUT /result 5", "{requests:?}");
        assert_eq!(requests.len(), statuses.split('/').count() + 1);
    }
    // An archive is packed again for the new address.
    let large = "word ".repeat(400_000);
    let url = web.url("307/result");
    let node = executor
        .node(&write(
            &large,
            json!({"tar": {"compressionLevel": 0}}),
            json!({"url": url}),
        ))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let requests = web.take_requests();
    assert!(requests[1].body.len() > 2_000_000);
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_never_becomes_a_get() {
    let web = ScriptedServer::start(answer).await;
    let executor = executor(&[&web.host]);
    let url = web.url("303/result");
    let node = executor
        .node(&write("a b c", json!({"none": {}}), json!({"url": url})))
        .await;
    assert_eq!(node["phase"], "Error", "{node}");
    let expected = format!(
        "answers 303 See Other to a PUT request; at the new address, the request would be a GET \
         without content: send the content to the right address yourself; the server names \
         `http://{}/result`",
        web.host
    );
    assert!(message(&node).contains(&expected), "{node}");
    assert_eq!(summary(&web), ["PUT /303/result 5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_without_end_are_not_retried() {
    let web = ScriptedServer::start(answer).await;
    let executor = executor(&[&web.host]);
    let upload = |path: &str| write("a", json!({"none": {}}), json!({"url": web.url(path)}));
    for step in [upload("loop"), read(web.url("loop"))] {
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Error", "{node}");
        let expected = format!("`http://{}` redirects more than 10 times", web.host);
        assert!(message(&node).contains(&expected), "{node}");
        assert_eq!(summary(&web).len(), 11, "{node}");
    }
    let ten = "307/".repeat(10);
    let node = executor.node(&read(web.url(&format!("{ten}text")))).await;
    assert_eq!(node["outputs"]["result"], "2", "{node}");
    summary(&web);
    for (step, expected) in [
        (
            upload("metadata"),
            "(a link-local address), and requests to such addresses are refused",
        ),
        (
            read(web.url("metadata")),
            "(a link-local address), and requests to such addresses are refused",
        ),
        (
            upload("nowhere"),
            "sends a redirect without a valid `Location`",
        ),
        (
            read(web.url("304/x")),
            "the server answers 304 Not Modified",
        ),
    ] {
        let node = executor.node(&step).await;
        assert!(message(&node).contains(expected), "{node}");
        assert_eq!(summary(&web).len(), 1, "{node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_carries_no_credentials_to_another_server() {
    let other = ScriptedServer::start(answer).await;
    let target = other.url("result");
    let web = ScriptedServer::start(move |_| redirect(307, &target)).await;
    let executor = executor(&[&web.host, &other.host]);
    let headers = json!([
        {"name": "Authorization", "value": "Bearer secret"},
        {"name": "X-Own", "value": "secret"},
        {"name": "Content-Type", "value": "text/plain"},
    ]);
    let http = json!({"url": web.url("first"), "headers": headers});
    let node = executor
        .node(&write("a b", json!({"none": {}}), http))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let [first, second] = [
        web.take_requests().remove(0),
        other.take_requests().remove(0),
    ];
    assert_eq!(first.header("authorization"), "Bearer secret");
    assert_eq!(
        ["authorization", "x-own", "content-type"].map(|name| second.header(name)),
        ["", "", "text/plain"]
    );
    assert_eq!(second.body(), "a b");
}
