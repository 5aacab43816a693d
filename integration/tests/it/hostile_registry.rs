//! Registries with invalid answers, and registries that are old, slow or busy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use sources::Digest;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::guest;

use crate::{insecure, message, template_of_module};

type Answer = Box<dyn Fn(usize) -> Response + Send + Sync>;

/// A registry whose answers a test defines by method and path below `/v2/m/`. All other requests
/// are answered with 404. It ends with the runtime of the test.
#[derive(Clone)]
pub(crate) struct ScriptedRegistry {
    /// Address of the registry: `127.0.0.1:PORT`.
    pub(crate) host: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Answer>>,
    requests: Mutex<Vec<String>>,
}

/// Digests of an artifact with one module.
pub(crate) struct Pushed {
    /// Digest of the manifest.
    pub(crate) manifest: Digest,
    /// Digest of the layer, which is the module.
    pub(crate) layer: Digest,
}

impl ScriptedRegistry {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/{*path}", any(answer))
            .with_state(Arc::clone(&shared));
        let host = wasm_workflow_integration::serve(router).await;
        Self { host, shared }
    }

    /// Defines the answer to a request, such as `GET blobs/sha256:…`. The argument of `answer` is
    /// the number of equal requests before.
    pub(crate) fn on(
        &self,
        request: &str,
        answer: impl Fn(usize) -> Response + Send + Sync + 'static,
    ) {
        self.shared
            .answers
            .lock()
            .unwrap()
            .insert(request.to_owned(), Box::new(answer));
    }

    /// Defines correct answers for one module with the tag `1`.
    pub(crate) fn push_module(&self, module: &[u8]) -> Pushed {
        let document = manifest(module, &json!({}));
        self.push_manifest(&document);
        let layer = Digest::of(module);
        let module = module.to_vec();
        self.on(&format!("GET blobs/{layer}"), move |_| {
            module.clone().into_response()
        });
        Pushed {
            manifest: Digest::of(document.as_bytes()),
            layer,
        }
    }

    /// Defines correct answers for a manifest with the tag `1`.
    fn push_manifest(&self, document: &str) {
        let digest = Digest::of(document.as_bytes());
        let head = digest.to_string();
        let body = document.to_owned();
        self.on("HEAD manifests/1", move |_| {
            [("docker-content-digest", head.clone())].into_response()
        });
        self.on(&format!("GET manifests/{digest}"), move |_| {
            body.clone().into_response()
        });
    }

    /// The requests since the last call of this function.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri) -> Response {
    let request = format!("{method} {}", uri.path().trim_start_matches("/v2/m/"));
    let before = {
        let mut requests = shared.requests.lock().unwrap();
        requests.push(request.clone());
        let equal = requests.iter().filter(|other| **other == request);
        equal.count() - 1
    };
    match shared.answers.lock().unwrap().get(&request) {
        Some(answer) => answer(before),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A manifest in the CNCF layout. The fields of `over` replace fields of its layer.
fn manifest(module: &[u8], over: &Value) -> String {
    let mut layer = json!({"mediaType": "application/wasm", "digest": Digest::of(module), "size": module.len()});
    layer
        .as_object_mut()
        .unwrap()
        .extend(over.as_object().unwrap().clone());
    let config = json!({"mediaType": "application/vnd.wasm.config.v0+json", "digest": Digest::of(b"{}"), "size": 2});
    json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string()
}

fn of(host: &str) -> Value {
    template_of_module(json!({"oci": format!("{host}/m:1")}))
}

/// Runs the module with the tag `1` in a new executor, and returns the node.
async fn run(registry: &ScriptedRegistry) -> Value {
    insecure(&registry.host).node(&of(&registry.host)).await
}

fn noop() -> Vec<u8> {
    std::fs::read(guest("noop-command")).unwrap()
}

#[tokio::test]
async fn manifests_and_blobs_of_a_registry_are_verified() {
    let module = noop();
    let layer = Digest::of(&module);
    let blob = format!("GET blobs/{layer}");
    let both = manifest(&module, &json!({})).replacen('{', "{\"manifests\":[],", 1);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": Digest::of(b"{\"schemaVersion\":2,\"manifests\":[]}"), "size": 34, "platform": {"os": "wasip1", "architecture": "wasm"}}]});
    let documents = [
        (both, "has fields of an index and of an image"),
        (
            manifest(&module, &json!({"size": -1})),
            "the manifest has an invalid size for",
        ),
        (
            manifest(&module, &json!({"digest": "sha256:../../../etc/passwd"})),
            "a descriptor with a malformed digest",
        ),
        (
            manifest(&module, &json!({"size": 1u64 << 40})),
            "the limit is",
        ),
        (
            "<html>log in</html>".to_owned(),
            "the registry's manifest is malformed",
        ),
        (deep, "the registry's manifest is malformed"),
        (
            json!({"schemaVersion": 1}).to_string(),
            "schema version 1 are not supported",
        ),
        (" ".repeat(5 << 20), "is larger than 4194304 bytes"),
        (
            manifest(&module, &json!({})).replacen(
                '{',
                "{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",",
                1,
            ),
            "do not match its `mediaType`",
        ),
        (index.to_string(), "the index has no manifests"),
    ];
    for (document, expected) in documents {
        let registry = ScriptedRegistry::start().await;
        registry.push_manifest(&document);
        registry.on(
            &format!(
                "GET manifests/{}",
                Digest::of(b"{\"schemaVersion\":2,\"manifests\":[]}")
            ),
            |_| "{\"schemaVersion\":2,\"manifests\":[]}".into_response(),
        );
        let node = run(&registry).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{expected}: {node}");
    }
    let longer = [module.as_slice(), b"x"].concat();
    let mut changed = module.clone();
    changed[30] ^= 1;
    let short = module[..100].to_vec();
    let blobs: [(Answer, &str); 5] = [
        (
            Box::new(move |_| longer.clone().into_response()),
            "but announced",
        ),
        (
            Box::new(move |_| short.clone().into_response()),
            "but announced",
        ),
        (
            Box::new(move |_| changed.clone().into_response()),
            "expected content with digest",
        ),
        (Box::new(|_| endless()), "sends more than the"),
        (
            Box::new(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()),
            "failed with 500",
        ),
    ];
    for (answer, expected) in blobs {
        let registry = ScriptedRegistry::start().await;
        registry.push_module(&module);
        registry.on(&blob, answer);
        let executor = insecure(&registry.host);
        let node = executor.node(&of(&registry.host)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{expected}: {node}");
        let left = std::fs::read_dir(executor.directory().join("cache/tmp"))
            .map_or(0, std::iter::Iterator::count);
        assert_eq!(left, 0, "no partial file is left");
    }
}

/// An answer whose body has no length and no end.
fn endless() -> Response {
    let chunks = futures::stream::repeat_with(|| {
        Ok::<_, std::io::Error>(bytes::Bytes::from(vec![0; 65536]))
    });
    Body::from_stream(chunks).into_response()
}

#[tokio::test]
async fn wrong_digest_headers_are_errors_and_missing_ones_are_not() {
    let module = noop();
    let registry = ScriptedRegistry::start().await;
    let artifact = registry.push_module(&module).manifest;
    let document = manifest(&module, &json!({}));
    registry.on("HEAD manifests/1", |_| {
        [("docker-content-digest", Digest::of(b"other").to_string())].into_response()
    });
    let body = document.clone();
    registry.on(
        &format!("GET manifests/{}", Digest::of(b"other")),
        move |_| body.clone().into_response(),
    );
    let node = run(&registry).await;
    assert!(
        message(&node).contains("has another digest"),
        "the manifest does not have the digest of the header: {node}"
    );
    let body = document.clone();
    registry.on("GET manifests/1", move |_| body.clone().into_response());
    for header in ["sha256:x", "", "md5:00"] {
        registry.on("HEAD manifests/1", move |_| {
            [("docker-content-digest", header)].into_response()
        });
        let node = run(&registry).await;
        assert_eq!(node["phase"], "Succeeded", "{header}: {node}");
    }
    let host = &registry.host;
    let pinned = json!({"oci": format!("{host}/m@sha256:{}", artifact.hex().to_uppercase())});
    assert_eq!(
        insecure(host).node(&template_of_module(pinned)).await["phase"],
        "Succeeded"
    );
}

/// The executor does not send requests to other hosts or to forbidden addresses because of the
/// `urls` of a layer, a challenge, or the name of a host.
#[tokio::test]
async fn a_registry_cannot_redirect_requests_to_other_hosts() {
    let module = noop();
    let registry = ScriptedRegistry::start().await;
    let other = ScriptedRegistry::start().await;
    registry.push_module(&module);
    registry.push_manifest(&manifest(
        &module,
        &json!({"urls": [format!("http://{}/v2/m/blob", other.host)]}),
    ));
    let executor = Executor::start_with(Options {
        flags: vec![
            "--insecure-registry".to_owned(),
            format!("{},{}", registry.host, other.host),
        ],
        ..Options::default()
    });
    assert_eq!(
        executor.node(&of(&registry.host)).await["phase"],
        "Succeeded"
    );
    assert!(
        other.take_requests().is_empty(),
        "`urls` of a layer are not followed"
    );
    let challenge = "Bearer realm=\"http://169.254.169.254/token\",service=\"s\"";
    registry.on("HEAD manifests/1", move |_| {
        (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
    });
    let node = run(&registry).await;
    assert!(
        message(&node)
            .contains("(a link-local address), and requests to such addresses are refused"),
        "{node}"
    );
    let named = registry.host.replace("127.0.0.1", "localhost");
    let node = Executor::start().node(&of(&named)).await;
    assert!(
        message(&node).contains("(this machine), and requests to such addresses are refused"),
        "the name of this machine: {node}"
    );
    let node = Executor::start()
        .node(&of("[::ffff:169.254.169.254]"))
        .await;
    assert_eq!(node["phase"], "Error", "{node}");
}

#[tokio::test]
async fn retry_after_is_respected_up_to_a_bound() {
    let module = noop();
    let busy = |headers: HeaderMap| (StatusCode::TOO_MANY_REQUESTS, headers).into_response();
    let after = |text: String| {
        HeaderMap::from_iter([(axum::http::header::RETRY_AFTER, text.parse().unwrap())])
    };
    let registry = ScriptedRegistry::start().await;
    let artifact = registry.push_module(&module).manifest;
    for wait in [
        "1".to_owned(),
        httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2)),
    ] {
        let digest = artifact.to_string();
        let headers = after(wait);
        registry.take_requests();
        registry.on("HEAD manifests/1", move |before| match before {
            0 => busy(headers.clone()),
            _ => [("docker-content-digest", digest.clone())].into_response(),
        });
        assert_eq!(run(&registry).await["phase"], "Succeeded");
    }
    let headers = after("3600".to_owned());
    registry.on("HEAD manifests/1", move |_| busy(headers.clone()));
    let node = run(&registry).await;
    assert!(
        message(&node).contains("limits requests (429"),
        "the executor does not wait for an hour: {node}"
    );
}

/// The registry sends one byte a second.
#[tokio::test]
async fn a_registry_that_sends_too_slowly_is_an_error() {
    let module = noop();
    let registry = ScriptedRegistry::start().await;
    let layer = registry.push_module(&module).layer;
    let length = module.len();
    registry.on(&format!("GET blobs/{layer}"), move |_| {
        let single_bytes = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((
                Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"\0")),
                (),
            ))
        });
        (
            [(axum::http::header::CONTENT_LENGTH, length)],
            Body::from_stream(single_bytes),
        )
            .into_response()
    });
    let node = run(&registry).await;
    assert_eq!(node["phase"], "Error", "{node}");
    assert!(message(&node).contains("is too slow: "), "{node}");
    assert_eq!(
        registry.take_requests().len(),
        3,
        "the download is not retried"
    );
}

/// A hundred steps that start together cause one resolution, one download and one compilation.
/// After a restart the executor sends one `HEAD` request.
#[tokio::test]
async fn concurrent_steps_share_one_resolve_download_and_compilation() {
    let registry = ScriptedRegistry::start().await;
    let Pushed { manifest, layer } = registry.push_module(&noop());
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        let flags = vec!["--insecure-registry".to_owned(), registry.host.clone()];
        Executor::start_with(Options {
            flags,
            cache: Some(cache.path().to_owned()),
            ..Options::default()
        })
    };
    let executor = start();
    let mut template = of(&registry.host);
    template["plugin"]["wasm"]["pull"] = json!({"policy": "Always"});
    let nodes = futures::future::join_all((0..100).map(|_| executor.node(&template))).await;
    assert!(
        nodes.iter().all(|node| node["phase"] == "Succeeded"),
        "{nodes:?}"
    );
    let expected = [
        "HEAD manifests/1".to_owned(),
        format!("GET manifests/{manifest}"),
        format!("GET blobs/{layer}"),
    ];
    assert_eq!(registry.take_requests(), expected);
    assert_eq!(
        executor.log().matches("milliseconds=").count(),
        1,
        "one compilation"
    );
    drop(executor);
    assert_eq!(start().node(&template).await["phase"], "Succeeded");
    assert_eq!(
        registry.take_requests(),
        ["HEAD manifests/1"],
        "the tag still has the same digest"
    );
}

/// If a mirror lacks content or serves wrong content, the executor uses the registry itself.
#[tokio::test]
async fn a_broken_mirror_falls_back_to_the_registry() {
    let module = noop();
    let layer = Digest::of(&module);
    for broken in ["manifest", "blob", "nothing"] {
        let registry = ScriptedRegistry::start().await;
        let mirror = ScriptedRegistry::start().await;
        let artifact = registry.push_module(&module).manifest;
        mirror.push_module(&module);
        match broken {
            "manifest" => mirror.on(&format!("GET manifests/{artifact}"), |_| {
                "{}".into_response()
            }),
            "blob" => mirror.on(&format!("GET blobs/{layer}"), |_| {
                vec![0; 10].into_response()
            }),
            _ => {}
        }
        let host = registry.host.clone();
        let mirrors: Value = [(host.clone(), json!([mirror.host]))].into_iter().collect();
        let config = json!({"sources": {"insecure": [host, mirror.host], "mirrors": mirrors}});
        let executor = Executor::start_with(Options {
            config: Some(config.to_string()),
            ..Options::default()
        });
        let node = executor.node(&of(&host)).await;
        assert_eq!(node["phase"], "Succeeded", "{broken}: {node}");
        assert_eq!(
            registry.take_requests().is_empty(),
            broken == "nothing",
            "{broken}"
        );
    }
}
