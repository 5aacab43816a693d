//! An S3 server that checks signatures, `s3s-fs`, on loopback; buckets are directories. It can be told to fail.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use axum::{Router, http};
use futures::StreamExt;
use s3s::service::{S3Service, S3ServiceBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::Service;

/// The keys that the server knows.
pub const ACCESS_KEY: &str = "AKIDTEST";
/// The secret one.
pub const SECRET_KEY: &str = "not-so-secret";

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error as S3 says it: a status and a code.
    Error(u16, &'static str),
    /// A status without a body that says more.
    Status(u16),
    /// The connection breaks after so many bytes of the answer.
    Cut(usize),
    /// The answer comes a byte at a time.
    Drip,
    /// The answer has these headers too.
    Headers(&'static [(&'static str, &'static str)]),
}

/// A running server. It ends with the test's runtime.
#[derive(Debug)]
pub struct S3 {
    /// `127.0.0.1:PORT`
    pub endpoint: String,
    root: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    service: Option<S3Service>,
    root: PathBuf,
    faults: Mutex<VecDeque<(String, Fault)>>,
    asked: Mutex<Vec<(String, http::HeaderMap)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl S3 {
    /// Starts it with the bucket `artifacts`.
    pub async fn start() -> Self {
        let root = TempDir::new().expect("a directory");
        std::fs::create_dir(root.path().join("artifacts")).expect("a bucket");
        let files = s3s_fs::FileSystem::new(root.path()).expect("a store");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(s3s::auth::SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let (service, directory) = (Some(builder.build()), root.path().to_owned());
        let shared = Arc::new(Shared {
            service,
            root: directory,
            ..Shared::default()
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let router = router.layer(axum::extract::DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let endpoint = listener.local_addr().expect("an address").to_string();
        // Without waiting for more to send: small answers come in two pieces.
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            endpoint,
            root,
            shared,
        }
    }

    /// The next request that contains `matching`, `GET /artifacts/key`, goes wrong.
    pub fn fail(&self, matching: &str, fault: Fault) {
        self.shared
            .faults
            .lock()
            .expect("the faults")
            .push_back((matching.to_owned(), fault));
    }

    /// What was asked for since the last time: methods and paths.
    pub fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.shared.asked.lock().expect("the list"));
        asked.into_iter().map(|(asked, _)| asked).collect()
    }

    /// The headers of what was asked for, where the method and path contain `matching`, since [`asked`](Self::asked) was called.
    pub fn headers(&self, matching: &str) -> Vec<http::HeaderMap> {
        let asked = self.shared.asked.lock().expect("the list");
        asked
            .iter()
            .filter(|(asked, _)| asked.contains(matching))
            .map(|(_, headers)| headers.clone())
            .collect()
    }

    /// Where an object of the bucket `artifacts` is.
    pub fn object(&self, key: &str) -> PathBuf {
        self.root.path().join("artifacts").join(key)
    }

    /// Puts an object.
    pub fn put(&self, key: &str, content: impl AsRef<[u8]>) {
        let path = self.object(key);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content).expect("an object");
    }

    /// Every key of the bucket `artifacts`.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let root = self.root.path().join("artifacts");
        walk(&root, &root, &mut keys);
        keys.sort();
        keys
    }

    /// The bucket as Argo writes it, without keys: those are in the environment.
    pub fn bucket(&self) -> Value {
        json!({"endpoint": self.endpoint, "bucket": "artifacts", "insecure": true})
    }

    /// The environment in which the server's keys are.
    pub fn environment() -> Vec<(String, String)> {
        keys(ACCESS_KEY, SECRET_KEY)
    }
}

/// The environment with these keys, and no others.
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

/// Whoever is refused before all is sent may find the connection gone, and not the answer.
async fn read_all(request: Request) {
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let asked = format!("{} {}", request.method(), request.uri());
    shared
        .asked
        .lock()
        .expect("the list")
        .push((asked.clone(), request.headers().clone()));
    let fault = {
        let mut faults = shared.faults.lock().expect("the faults");
        let at = faults
            .iter()
            .position(|(matching, _)| asked.contains(matching.as_str()));
        at.and_then(|at| faults.remove(at)).map(|(_, fault)| fault)
    };
    match fault {
        Some(Fault::Error(status, code)) => {
            read_all(request).await;
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told to</Message></Error>"
            );
            return (http::StatusCode::from_u16(status).expect("a status"), body).into_response();
        }
        Some(Fault::Status(status)) => {
            read_all(request).await;
            return (http::StatusCode::from_u16(status).expect("a status"), "").into_response();
        }
        _ => {}
    }
    // S3 has no directories, and this server cannot read its own.
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
        Some(Fault::Drip) => answered.map(drip),
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

fn drip(body: Body) -> Body {
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
    // One piece more, so that the end comes in the middle.
    let pieces = body
        .into_data_stream()
        .map(cut)
        .chain(futures::stream::once(async {
            Err(axum::Error::new(std::io::Error::other("cut")))
        }));
    Response::from_parts(parts, Body::from_stream(pieces))
}
