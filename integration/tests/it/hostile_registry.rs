//! Registries that answer what no registry should, and those that are merely old or busy.

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

/// Answers by method and path below `/v2/m/`; anything else is not there.
#[derive(Default)]
pub(crate) struct Rogue {
    answers: Mutex<BTreeMap<String, Answer>>,
    asked: Mutex<Vec<String>>,
}

impl Rogue {
    pub(crate) async fn start() -> (String, Arc<Self>) {
        let rogue = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let router = Router::new()
            .route("/{*path}", any(answer))
            .with_state(Arc::clone(&rogue));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (host, rogue)
    }

    /// `answer` is told how many times it was asked before.
    pub(crate) fn on(
        &self,
        what: &str,
        answer: impl Fn(usize) -> Response + Send + Sync + 'static,
    ) {
        self.answers
            .lock()
            .unwrap()
            .insert(what.to_owned(), Box::new(answer));
    }

    /// An honest registry with one module under the tag `1`; what it has for each digest.
    pub(crate) fn with_module(&self, module: &[u8]) -> (Digest, Digest) {
        let document = manifest(module, &json!({}));
        self.with_manifest(&document);
        let (layer, module) = (Digest::of(module), module.to_vec());
        self.on(&format!("GET blobs/{layer}"), move |_| {
            module.clone().into_response()
        });
        (Digest::of(document.as_bytes()), layer)
    }

    fn with_manifest(&self, document: &str) {
        let digest = Digest::of(document.as_bytes());
        let (head, body) = (digest.to_string(), document.to_owned());
        self.on("HEAD manifests/1", move |_| {
            [("docker-content-digest", head.clone())].into_response()
        });
        self.on(&format!("GET manifests/{digest}"), move |_| {
            body.clone().into_response()
        });
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn answer(State(rogue): State<Arc<Rogue>>, method: Method, uri: Uri) -> Response {
    let what = format!("{method} {}", uri.path().trim_start_matches("/v2/m/"));
    let before = {
        let mut asked = rogue.asked.lock().unwrap();
        asked.push(what.clone());
        asked.iter().filter(|asked| **asked == what).count() - 1
    };
    match rogue.answers.lock().unwrap().get(&what) {
        Some(answer) => answer(before),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A manifest in the CNCF's layout; `over` changes its layer.
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
        (both, "claims to be an index and an image at once"),
        (manifest(&module, &json!({"size": -1})), "has -1 bytes"),
        (
            manifest(&module, &json!({"digest": "sha256:../../../etc/passwd"})),
            "by a malformed digest",
        ),
        (
            manifest(&module, &json!({"size": 1u64 << 40})),
            "the limit is",
        ),
        (
            "<html>log in</html>".to_owned(),
            "the registry's manifest is not one",
        ),
        (deep, "the registry's manifest is not one"),
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
            "and is not",
        ),
        (index.to_string(), "names another index"),
    ];
    for (document, expected) in documents {
        let (host, rogue) = Rogue::start().await;
        rogue.with_manifest(&document);
        rogue.on(
            &format!(
                "GET manifests/{}",
                Digest::of(b"{\"schemaVersion\":2,\"manifests\":[]}")
            ),
            |_| "{\"schemaVersion\":2,\"manifests\":[]}".into_response(),
        );
        let node = insecure(&host).node(&of(&host)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{expected}: {node}");
    }
    let longer = [module.as_slice(), b"x"].concat();
    let mut changed = module.clone();
    changed[30] ^= 1;
    let short = module[..100].to_vec();
    let blobs: [(Answer, &str); 5] = [
        (Box::new(move |_| longer.clone().into_response()), "where"),
        (Box::new(move |_| short.clone().into_response()), "where"),
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
        let (host, rogue) = Rogue::start().await;
        rogue.with_module(&module);
        rogue.on(&blob, answer);
        let executor = insecure(&host);
        let node = executor.node(&of(&host)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{expected}: {node}");
        let left = std::fs::read_dir(executor.directory().join("cache/tmp"))
            .map_or(0, std::iter::Iterator::count);
        assert_eq!(left, 0, "nothing half-written stays");
    }
}

/// A body without a length and without an end.
fn endless() -> Response {
    let chunks = futures::stream::repeat_with(|| {
        Ok::<_, std::io::Error>(bytes::Bytes::from(vec![0; 65536]))
    });
    Body::from_stream(chunks).into_response()
}

#[tokio::test]
async fn wrong_digest_headers_are_errors_and_missing_ones_are_not() {
    let module = noop();
    let (host, rogue) = Rogue::start().await;
    let (artifact, _) = rogue.with_module(&module);
    let document = manifest(&module, &json!({}));
    rogue.on("HEAD manifests/1", |_| {
        [("docker-content-digest", Digest::of(b"other").to_string())].into_response()
    });
    let body = document.clone();
    rogue.on(
        &format!("GET manifests/{}", Digest::of(b"other")),
        move |_| body.clone().into_response(),
    );
    let node = insecure(&host).node(&of(&host)).await;
    assert!(
        message(&node).contains("has the digest"),
        "another manifest than the header says: {node}"
    );
    rogue.on("HEAD manifests/1", |_| {
        [("docker-content-digest", "sha256:x")].into_response()
    });
    assert!(message(&insecure(&host).node(&of(&host)).await).contains("sends a malformed digest"));
    for status in [200, 405] {
        rogue.on("HEAD manifests/1", move |_| {
            StatusCode::from_u16(status).unwrap().into_response()
        });
        let body = document.clone();
        rogue.on("GET manifests/1", move |_| body.clone().into_response());
        let node = insecure(&host).node(&of(&host)).await;
        assert_eq!(node["phase"], "Succeeded", "{status}: {node}");
    }
    let pinned = json!({"oci": format!("{host}/m@sha256:{}", artifact.hex().to_uppercase())});
    assert_eq!(
        insecure(&host).node(&template_of_module(pinned)).await["phase"],
        "Succeeded"
    );
}

/// Nobody is sent where a manifest, a challenge or a name says.
#[tokio::test]
async fn a_registry_cannot_redirect_requests_to_other_hosts() {
    let module = noop();
    let ((host, rogue), (other, elsewhere)) = (Rogue::start().await, Rogue::start().await);
    rogue.with_module(&module);
    rogue.with_manifest(&manifest(
        &module,
        &json!({"urls": [format!("http://{other}/v2/m/blob")]}),
    ));
    let executor = Executor::start_with(Options {
        flags: vec!["--insecure-registry".to_owned(), format!("{host},{other}")],
        ..Options::default()
    });
    assert_eq!(executor.node(&of(&host)).await["phase"], "Succeeded");
    assert!(
        elsewhere.asked().is_empty(),
        "`urls` of a layer are not followed"
    );
    let challenge = "Bearer realm=\"http://169.254.169.254/token\",service=\"s\"";
    rogue.on("HEAD manifests/1", move |_| {
        (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
    });
    let node = insecure(&host).node(&of(&host)).await;
    assert!(
        message(&node).contains("a link-local address, which requests may not reach"),
        "{node}"
    );
    let named = host.replace("127.0.0.1", "localhost");
    let node = Executor::start().node(&of(&named)).await;
    assert!(
        message(&node).contains("this machine, which requests may not reach"),
        "by name: {node}"
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
    let (host, rogue) = Rogue::start().await;
    let (artifact, _) = rogue.with_module(&module);
    for wait in [
        "1".to_owned(),
        httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2)),
    ] {
        let digest = artifact.to_string();
        let headers = after(wait);
        rogue.asked();
        rogue.on("HEAD manifests/1", move |before| match before {
            0 => busy(headers.clone()),
            _ => [("docker-content-digest", digest.clone())].into_response(),
        });
        assert_eq!(insecure(&host).node(&of(&host)).await["phase"], "Succeeded");
    }
    let headers = after("3600".to_owned());
    rogue.on("HEAD manifests/1", move |_| busy(headers.clone()));
    let node = insecure(&host).node(&of(&host)).await;
    assert!(
        message(&node).contains("limits requests (429"),
        "an hour is not waited: {node}"
    );
}

/// A byte a second: nobody waits for the end of that.
#[tokio::test]
async fn a_registry_that_sends_too_slowly_is_an_error() {
    let module = noop();
    let (host, rogue) = Rogue::start().await;
    let (_, layer) = rogue.with_module(&module);
    let length = module.len();
    rogue.on(&format!("GET blobs/{layer}"), move |_| {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((
                Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"\0")),
                (),
            ))
        });
        (
            [(axum::http::header::CONTENT_LENGTH, length)],
            Body::from_stream(drops),
        )
            .into_response()
    });
    let node = insecure(&host).node(&of(&host)).await;
    assert_eq!(node["phase"], "Error", "{node}");
    assert!(message(&node).contains("is too slow: "), "{node}");
    assert_eq!(rogue.asked().len(), 3, "and it is not asked again");
}

/// One request to find out, one download, one compilation, however many steps start together; and later one `HEAD`.
#[tokio::test]
async fn concurrent_steps_share_one_resolve_download_and_compilation() {
    let (host, rogue) = Rogue::start().await;
    let (artifact, layer) = rogue.with_module(&noop());
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        let flags = vec!["--insecure-registry".to_owned(), host.clone()];
        Executor::start_with(Options {
            flags,
            cache: Some(cache.path().to_owned()),
            ..Options::default()
        })
    };
    let executor = start();
    let mut template = of(&host);
    template["plugin"]["wasm"]["pull"] = json!({"policy": "Always"});
    let nodes = futures::future::join_all((0..100).map(|_| executor.node(&template))).await;
    assert!(
        nodes.iter().all(|node| node["phase"] == "Succeeded"),
        "{nodes:?}"
    );
    let expected = [
        "HEAD manifests/1".to_owned(),
        format!("GET manifests/{artifact}"),
        format!("GET blobs/{layer}"),
    ];
    assert_eq!(rogue.asked(), expected);
    assert_eq!(
        executor.log().matches("milliseconds=").count(),
        1,
        "one compilation"
    );
    drop(executor);
    assert_eq!(start().node(&template).await["phase"], "Succeeded");
    assert_eq!(
        rogue.asked(),
        ["HEAD manifests/1"],
        "the tag is what it was"
    );
}

/// A mirror is a convenience: what it has wrong, or not, the registry itself is asked for.
#[tokio::test]
async fn a_broken_mirror_falls_back_to_the_registry() {
    let module = noop();
    let layer = Digest::of(&module);
    for broken in ["manifest", "blob", "nothing"] {
        let ((host, registry), (mirror, rogue)) = (Rogue::start().await, Rogue::start().await);
        let (artifact, _) = registry.with_module(&module);
        rogue.with_module(&module);
        match broken {
            "manifest" => rogue.on(&format!("GET manifests/{artifact}"), |_| {
                "{}".into_response()
            }),
            "blob" => rogue.on(&format!("GET blobs/{layer}"), |_| {
                vec![0; 10].into_response()
            }),
            _ => {}
        }
        let mirrors: Value = [(host.clone(), json!([mirror]))].into_iter().collect();
        let config = json!({"sources": {"insecure": [host, mirror], "mirrors": mirrors}});
        let executor = Executor::start_with(Options {
            config: Some(config.to_string()),
            ..Options::default()
        });
        let node = executor.node(&of(&host)).await;
        assert_eq!(node["phase"], "Succeeded", "{broken}: {node}");
        assert_eq!(registry.asked().is_empty(), broken == "nothing", "{broken}");
    }
}
