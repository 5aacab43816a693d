//! Modules on web servers.

mod caching;
mod content;
mod credentials;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::Options;
use wasm_workflow_integration::guests::guest;

use crate::template_of_module;

/// What the server serves, wants, and was asked.
#[derive(Default)]
struct Web {
    module: Mutex<Vec<u8>>,
    /// A header that every request must have, with its value.
    wanted: Mutex<Option<(&'static str, String)>>,
    asked: Mutex<Vec<(String, HeaderMap)>>,
    redirect: Mutex<Option<String>>,
    /// Headers of every answer.
    headers: Mutex<HeaderMap>,
}

impl Web {
    async fn start() -> (String, Arc<Self>) {
        let web = Arc::new(Self::default());
        *web.module.lock().unwrap() = std::fs::read(guest("noop-command")).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let router = Router::new()
            .route("/{*path}", any(answer))
            .with_state(Arc::clone(&web));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (host, web)
    }

    fn want(&self, name: &'static str, value: &str) {
        *self.wanted.lock().unwrap() = Some((name, value.to_owned()));
    }

    fn say(&self, name: &'static str, value: &str) {
        self.headers
            .lock()
            .unwrap()
            .insert(name, value.parse().unwrap());
    }

    fn asked(&self) -> Vec<(String, HeaderMap)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn answer(State(web): State<Arc<Web>>, uri: Uri, headers: HeaderMap) -> Response {
    let (also, mut response) = (
        web.headers.lock().unwrap().clone(),
        answer_to(&web, &uri, &headers),
    );
    response.headers_mut().extend(also);
    response
}

fn answer_to(web: &Web, uri: &Uri, headers: &HeaderMap) -> Response {
    web.asked
        .lock()
        .unwrap()
        .push((uri.path().to_owned(), headers.clone()));
    if let Some((name, value)) = &*web.wanted.lock().unwrap()
        && headers.get(*name).and_then(|given| given.to_str().ok()) != Some(value)
    {
        return (StatusCode::UNAUTHORIZED, "log in").into_response();
    }
    if let Some(location) = &*web.redirect.lock().unwrap() {
        return (StatusCode::FOUND, [("location", location.clone())]).into_response();
    }
    match uri.path() {
        "/login.wasm" => ([("content-type", "text/html")], "<html>log in</html>").into_response(),
        "/gone.wasm" => StatusCode::NOT_FOUND.into_response(),
        _ => {
            let module = web.module.lock().unwrap().clone();
            let etag = format!("\"{}\"", sources::Digest::of(&module).short());
            if headers
                .get("if-none-match")
                .and_then(|given| given.to_str().ok())
                == Some(&etag)
            {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            ([("etag", etag)], module).into_response()
        }
    }
}

fn at(url: &str) -> Value {
    template_of_module(json!({"http": {"url": url}}))
}

fn options(host: &str) -> Options {
    Options {
        flags: vec!["--insecure-registry".to_owned(), host.to_owned()],
        ..Options::default()
    }
}
