//! Modules on web servers.

mod caching;
mod content;
mod credentials;
mod namespaces;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::Options;
use wasm_workflow_integration::guests::guest;

use crate::template_of_module;

/// A web server with one module at every path. It ends with the runtime of the test.
struct WebServer {
    /// Address of the server: `127.0.0.1:PORT`.
    host: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    module: Mutex<Vec<u8>>,
    /// Header that every request must have.
    required: Mutex<Option<RequiredHeader>>,
    requests: Mutex<Vec<HeaderMap>>,
    /// Location to which every request is redirected.
    redirect: Mutex<Option<String>>,
    /// Headers of every answer.
    headers: Mutex<HeaderMap>,
}

struct RequiredHeader {
    name: &'static str,
    value: String,
}

impl WebServer {
    /// Starts a server that serves the module `noop-command`.
    async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        *shared.module.lock().unwrap() = std::fs::read(guest("noop-command")).unwrap();
        let router = Router::new()
            .route("/{*path}", any(answer))
            .with_state(Arc::clone(&shared));
        let host = wasm_workflow_integration::serve(router).await;
        Self { host, shared }
    }

    /// Serves these bytes from now on.
    fn serve(&self, module: Vec<u8>) {
        *self.shared.module.lock().unwrap() = module;
    }

    /// Requires this header in every request.
    fn require_header(&self, name: &'static str, value: &str) {
        let value = value.to_owned();
        *self.shared.required.lock().unwrap() = Some(RequiredHeader { name, value });
    }

    /// Redirects every request.
    fn redirect_to(&self, location: String) {
        *self.shared.redirect.lock().unwrap() = Some(location);
    }

    /// Adds a header to every answer.
    fn add_header(&self, name: &'static str, value: &str) {
        let value = value.parse().unwrap();
        self.shared.headers.lock().unwrap().insert(name, value);
    }

    /// Headers of the requests since the last call of this function.
    fn take_requests(&self) -> Vec<HeaderMap> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }

    /// Template that runs the module at a path of this server.
    fn template(&self, path: &str) -> Value {
        template_of_module(json!({"http": {"url": format!("http://{}/{path}", self.host)}}))
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let mut response = answer_to(&shared, &uri, &headers);
    let additional = shared.headers.lock().unwrap().clone();
    response.headers_mut().extend(additional);
    response
}

fn answer_to(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> Response {
    shared.requests.lock().unwrap().push(headers.clone());
    if let Some(required) = &*shared.required.lock().unwrap()
        && headers.get(required.name).map(HeaderValue::as_bytes) != Some(required.value.as_bytes())
    {
        return (StatusCode::UNAUTHORIZED, "log in").into_response();
    }
    if let Some(location) = &*shared.redirect.lock().unwrap() {
        return (StatusCode::FOUND, [("location", location.clone())]).into_response();
    }
    match uri.path() {
        "/login.wasm" => ([("content-type", "text/html")], "<html>log in</html>").into_response(),
        "/gone.wasm" => StatusCode::NOT_FOUND.into_response(),
        _ => {
            let module = shared.module.lock().unwrap().clone();
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

/// Options of an executor that uses plain HTTP for this server.
fn options(web: &WebServer) -> Options {
    Options {
        flags: vec!["--insecure-registry".to_owned(), web.host.clone()],
        ..Options::default()
    }
}
