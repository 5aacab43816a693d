//! Large objects from servers that say little, or something else, of what they send.

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

/// How the server strays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    Not,
    /// `Content-Range: bytes 0-3/*`
    WithoutSize,
    /// No `Content-Range` at all.
    WithoutRange,
    /// Less than was asked for.
    Short,
    WithoutTag,
    WeakTag,
    /// Another object after the first answers.
    Changing,
    /// Something from elsewhere in the object.
    Elsewhere,
}

fn content(version: u8) -> Vec<u8> {
    (0..SIZE)
        .map(|at| u8::try_from(at % 251).unwrap() ^ version)
        .collect()
}

async fn answer(
    State((odd, asked)): State<(Odd, Arc<AtomicUsize>)>,
    headers: HeaderMap,
) -> Response {
    let number = asked.fetch_add(1, Ordering::SeqCst);
    let version = u8::from(odd == Odd::Changing && number > 1);
    let content = content(version);
    let tag = match odd {
        Odd::WithoutTag => None,
        Odd::WeakTag => Some(format!("W/\"{version}\"")),
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
        let (start, end): (usize, usize) =
            (start.parse().unwrap(), end.parse::<usize>().unwrap() + 1);
        if odd == Odd::Short {
            (start, end.min(SIZE).min(start + 1_000_000))
        } else {
            (start, end.min(SIZE))
        }
    });
    let Some((start, end)) = range else {
        return content.into_response();
    };
    let shift = usize::from(odd == Odd::Elsewhere && start > 0);
    let mut response = (
        StatusCode::PARTIAL_CONTENT,
        content[start - shift..end - shift].to_vec(),
    )
        .into_response();
    let said = match odd {
        Odd::WithoutSize => Some(format!("bytes {start}-{}/*", end - 1)),
        Odd::WithoutRange => None,
        _ => Some(format!(
            "bytes {}-{}/{SIZE}",
            start - shift,
            end - shift - 1
        )),
    };
    for (name, value) in [("etag", tag), ("content-range", said)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    response
}

/// What came of the object, or what was said.
async fn brought(odd: Odd) -> Result<Vec<u8>, Value> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let put = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&put);
    let keep = async move |body: Bytes| *kept.lock().unwrap() = body.to_vec();
    let router = Router::new()
        .route("/put", axum::routing::put(keep))
        .layer(DefaultBodyLimit::disable());
    let router = router.fallback(answer).with_state((odd, Arc::default()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = json!({
        "sources": {"files": guests::directory(), "insecure": [endpoint]},
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
        Ok(std::mem::take(&mut *put.lock().unwrap()))
    } else {
        Err(node)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_arrive_complete_or_fail() {
    for odd in [
        Odd::Not,
        Odd::WithoutSize,
        Odd::WithoutRange,
        Odd::Short,
        Odd::WithoutTag,
        Odd::WeakTag,
    ] {
        let came = brought(odd).await;
        assert!(
            came.as_ref().is_ok_and(|came| *came == content(0)),
            "{odd:?}: {:?}",
            came.map(|came| came.len())
        );
    }
    let came = brought(Odd::Changing).await;
    assert!(
        came.is_ok_and(|came| came == content(1)),
        "it began again, with the other object"
    );
    let node = brought(Odd::Elsewhere)
        .await
        .map(|came| came.len())
        .unwrap_err();
    assert!(
        message(&node).contains("is another than it was when it was begun, after 3 attempts"),
        "{node}"
    );
}
