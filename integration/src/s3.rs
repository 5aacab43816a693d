//! An S3 server on loopback: `s3s-fs`, which verifies signatures and stores buckets as directories.
//! Tests can request faults.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Router, http};
use futures::StreamExt;
use s3s::service::{S3Service, S3ServiceBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::Service;

/// The only access key that the server accepts.
pub const ACCESS_KEY: &str = "AKIDTEST";
/// The secret key that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "not-so-secret";

/// A fault in the answer to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error in the form of S3: an HTTP status and an error code.
    Error(u16, &'static str),
    /// An HTTP status with an empty body.
    Status(u16),
    /// The connection breaks after this number of bytes of the body.
    Cut(usize),
    /// The body is sent at one byte a second.
    Slow,
    /// The answer is correct, and has these additional headers.
    Headers(&'static [(&'static str, &'static str)]),
}

/// A request that the server received.
#[derive(Clone, Debug)]
struct RecordedRequest {
    /// Method and URI, such as `GET /artifacts/key`.
    target: String,
    headers: http::HeaderMap,
}

/// A fault for the next request whose method and URI contain a text.
#[derive(Debug)]
struct PlannedFault {
    matching: String,
    fault: Fault,
}

/// A running server. It ends with the runtime of the test.
#[derive(Debug)]
pub struct S3 {
    /// Address of the server: `127.0.0.1:PORT`.
    pub endpoint: String,
    root: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    service: Option<S3Service>,
    root: PathBuf,
    faults: Mutex<VecDeque<PlannedFault>>,
    requests: Mutex<Vec<RecordedRequest>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl S3 {
    /// Starts a server with the empty bucket `artifacts`.
    pub async fn start() -> Self {
        let root = TempDir::new().expect("a directory");
        std::fs::create_dir(root.path().join("artifacts")).expect("a bucket");
        let files = s3s_fs::FileSystem::new(root.path()).expect("a store");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(s3s::auth::SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let shared = Arc::new(Shared {
            service: Some(builder.build()),
            root: root.path().to_owned(),
            ..Shared::default()
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let router = router.layer(axum::extract::DefaultBodyLimit::disable());
        let endpoint = crate::serve(router).await;
        Self {
            endpoint,
            root,
            shared,
        }
    }

    /// Plans a fault for the next request whose method and URI contain `matching`, such as
    /// `GET /artifacts/key`.
    pub fn fail(&self, matching: &str, fault: Fault) {
        let planned = PlannedFault {
            matching: matching.to_owned(),
            fault,
        };
        self.shared
            .faults
            .lock()
            .expect("the faults")
            .push_back(planned);
    }

    /// Methods and URIs of the requests since the last call of this function.
    pub fn take_requests(&self) -> Vec<String> {
        let requests = std::mem::take(&mut *self.shared.requests.lock().expect("the list"));
        requests.into_iter().map(|request| request.target).collect()
    }

    /// Headers of the requests since the last call of [`take_requests`](Self::take_requests) whose
    /// method and URI contain `matching`.
    pub fn headers(&self, matching: &str) -> Vec<http::HeaderMap> {
        let requests = self.shared.requests.lock().expect("the list");
        requests
            .iter()
            .filter(|request| request.target.contains(matching))
            .map(|request| request.headers.clone())
            .collect()
    }

    /// Path of the file that holds an object of the bucket `artifacts`.
    pub fn object(&self, key: &str) -> PathBuf {
        self.root.path().join("artifacts").join(key)
    }

    /// Stores an object in the bucket `artifacts`.
    pub fn put(&self, key: &str, content: impl AsRef<[u8]>) {
        let path = self.object(key);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content).expect("an object");
    }

    /// All keys of the bucket `artifacts`, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let root = self.root.path().join("artifacts");
        walk(&root, &root, &mut keys);
        keys.sort();
        keys
    }

    /// The bucket in Argo's form. It has no keys: the keys are in the environment.
    pub fn bucket(&self) -> Value {
        json!({"endpoint": self.endpoint, "bucket": "artifacts", "insecure": true})
    }

    /// Environment variables with the keys of the server.
    pub fn environment() -> Vec<(String, String)> {
        keys(ACCESS_KEY, SECRET_KEY)
    }
}

/// Environment variables with these keys. The metadata service of EC2 is disabled.
pub(crate) fn keys(access: &str, secret: &str) -> Vec<(String, String)> {
    let pairs = [
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn walk(root: &Path, directory: &Path, keys: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => walk(root, &path, keys),
            false => keys.push(
                path.strip_prefix(root)
                    .expect("below")
                    .display()
                    .to_string(),
            ),
        }
    }
}

/// Reads the whole body of a request. Otherwise a client that is still sending may see a closed
/// connection in place of the answer.
async fn read_all(request: Request) {
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let target = format!("{} {}", request.method(), request.uri());
    let recorded = RecordedRequest {
        target: target.clone(),
        headers: request.headers().clone(),
    };
    shared.requests.lock().expect("the list").push(recorded);
    let fault = {
        let mut faults = shared.faults.lock().expect("the faults");
        let at = faults
            .iter()
            .position(|planned| target.contains(&planned.matching));
        at.and_then(|at| faults.remove(at))
            .map(|planned| planned.fault)
    };
    match fault {
        Some(Fault::Error(status, code)) => {
            read_all(request).await;
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
            );
            return (http::StatusCode::from_u16(status).expect("a status"), body).into_response();
        }
        Some(Fault::Status(status)) => {
            read_all(request).await;
            return (http::StatusCode::from_u16(status).expect("a status"), "").into_response();
        }
        _ => {}
    }
    // S3 has no directories, but `s3s-fs` has, and it fails to read them as objects.
    let key = request.uri().path().trim_start_matches('/');
    if request.method() == http::Method::GET
        && request
            .uri()
            .query()
            .is_none_or(|query| query.starts_with("x-id"))
        && shared.root.join(key).is_dir()
    {
        return (
            http::StatusCode::NOT_FOUND,
            "<Error><Code>NoSuchKey</Code></Error>",
        )
            .into_response();
    }
    let mut service = shared.service.clone().expect("a service");
    let mut answered = Service::call(&mut service, request)
        .await
        .expect("an answer")
        .map(Body::new);
    match fault {
        Some(Fault::Cut(length)) => cut(answered, length),
        Some(Fault::Slow) => answered.map(one_byte_a_second),
        Some(Fault::Headers(headers)) => {
            let header = |(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static(value),
                )
            };
            answered
                .headers_mut()
                .extend(headers.iter().copied().map(header));
            answered
        }
        _ => answered,
    }
}

fn one_byte_a_second(body: Body) -> Body {
    let bytes = body.into_data_stream().flat_map(|chunk| {
        let chunk = chunk.unwrap_or_default();
        futures::stream::iter((0..chunk.len()).map(move |at| chunk.slice(at..=at)))
    });
    Body::from_stream(bytes.then(|byte| async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Ok::<_, axum::Error>(byte)
    }))
}

fn cut(answered: Response, length: usize) -> Response {
    let mut left = length;
    let cut = move |chunk: Result<bytes::Bytes, axum::Error>| {
        let chunk = chunk?;
        if left == 0 {
            return Err(axum::Error::new(std::io::Error::other("cut")));
        }
        let piece = chunk.slice(..chunk.len().min(left));
        left -= piece.len();
        Ok(piece)
    };
    let (parts, body) = answered.into_parts();
    // An error after the last piece breaks the connection, even if the body is complete.
    let pieces = body
        .into_data_stream()
        .map(cut)
        .chain(futures::stream::once(async {
            Err(axum::Error::new(std::io::Error::other("cut")))
        }));
    Response::from_parts(parts, Body::from_stream(pieces))
}
