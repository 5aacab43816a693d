//! Large objects from servers with missing or wrong headers.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::s3::S3;

use super::copy;
use crate::message;

const SIZE: usize = 10 << 20;

/// Deviation of the server from a correct answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deviation {
    None,
    /// `Content-Range` has no size: `bytes 0-3/*`.
    NoSize,
    /// There is no `Content-Range`.
    NoRange,
    /// The answer is shorter than the requested range.
    ShortRange,
    /// There is no `ETag`.
    NoTag,
    /// The `ETag` is weak.
    WeakTag,
    /// After the first two answers, the object has other content.
    Changing,
    /// The answer is another range than the requested range.
    OtherRange,
}

struct Server {
    deviation: Deviation,
    requests: AtomicUsize,
}

/// Content of a version of the object.
fn content(version: u8) -> Vec<u8> {
    (0..SIZE)
        .map(|at| u8::try_from(at % 251).unwrap() ^ version)
        .collect()
}

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let number = server.requests.fetch_add(1, Ordering::SeqCst);
    let deviation = server.deviation;
    let version = u8::from(deviation == Deviation::Changing && number > 1);
    let content = content(version);
    let tag = match deviation {
        Deviation::NoTag => None,
        Deviation::WeakTag => Some(format!("W/\"{version}\"")),
        _ => Some(format!("\"{version}\"")),
    };
    let range = headers.get("range").map(|range| {
        let (start, end) = range
            .to_str()
            .unwrap()
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse::<usize>().unwrap() + 1;
        if deviation == Deviation::ShortRange {
            start..end.min(SIZE).min(start + 1_000_000)
        } else {
            start..end.min(SIZE)
        }
    });
    let Some(Range { start, end }) = range else {
        return content.into_response();
    };
    let shift = usize::from(deviation == Deviation::OtherRange && start > 0);
    let mut response = (
        StatusCode::PARTIAL_CONTENT,
        content[start - shift..end - shift].to_vec(),
    )
        .into_response();
    let content_range = match deviation {
        Deviation::NoSize => Some(format!("bytes {start}-{}/*", end - 1)),
        Deviation::NoRange => None,
        _ => Some(format!(
            "bytes {}-{}/{SIZE}",
            start - shift,
            end - shift - 1
        )),
    };
    for (name, value) in [("etag", tag), ("content-range", content_range)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    response
}

/// Runs a step that copies the object to a URL. Returns the copied content, or the node of a step
/// that did not succeed.
async fn copied(deviation: Deviation) -> Result<Vec<u8>, Value> {
    let copy_of_object = Arc::new(Mutex::new(Vec::new()));
    let stored = Arc::clone(&copy_of_object);
    let put = async move |body: Bytes| *stored.lock().unwrap() = body.to_vec();
    let server = Arc::new(Server {
        deviation,
        requests: AtomicUsize::new(0),
    });
    let router = Router::new()
        .route("/put", axum::routing::put(put))
        .layer(DefaultBodyLimit::disable());
    let router = router.fallback(answer).with_state(server);
    let endpoint = wasm_workflow_integration::serve(router).await;
    let config = json!({
        "sources": {"fileRoot": guests::directory(), "insecure": [endpoint]},
        "artifacts": {"repository": {"s3": {"endpoint": endpoint, "bucket": "artifacts", "insecure": true}}},
    });
    let env = S3::environment();
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env,
        ..Options::default()
    });
    let input = json!({"s3": {"key": "in/text"}, "archive": {"none": {}}});
    let output =
        json!({"http": {"url": format!("http://{endpoint}/put")}, "archive": {"none": {}}});
    let node = executor.node(&copy(&input, &output)).await;
    if node["phase"] == "Succeeded" {
        Ok(std::mem::take(&mut *copy_of_object.lock().unwrap()))
    } else {
        Err(node)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_arrive_complete_or_fail() {
    for deviation in [
        Deviation::None,
        Deviation::NoSize,
        Deviation::NoRange,
        Deviation::ShortRange,
        Deviation::NoTag,
        Deviation::WeakTag,
    ] {
        let copied = copied(deviation).await;
        assert!(
            copied.as_ref().is_ok_and(|copied| *copied == content(0)),
            "{deviation:?}: {:?}",
            copied.map(|copied| copied.len())
        );
    }
    let changed = copied(Deviation::Changing).await;
    assert!(
        changed.is_ok_and(|copied| copied == content(1)),
        "the download was started again, with the other content"
    );
    let node = copied(Deviation::OtherRange)
        .await
        .map(|copied| copied.len())
        .unwrap_err();
    assert!(
        message(&node).contains("changed while it was read, after 3 attempts"),
        "{node}"
    );
}
