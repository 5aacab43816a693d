//! Modules on web servers: with and without a digest, behind passwords, tokens and headers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, program, request};
use wasm_workflow_integration::guests::{guest, padding};
use wasm_workflow_integration::kubernetes::Kubernetes;

use crate::cli::{Cli, stdout};
use crate::{message, template_of_module};

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

/// Asked for again by each workflow, and sent again only when it changed.
#[tokio::test]
async fn without_a_digest_it_is_revalidated() {
    let (host, web) = Web::start().await;
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        Executor::start_with(Options {
            cache: Some(cache.path().to_owned()),
            ..options(&host)
        })
    };
    let template = at(&format!("http://{host}/m.wasm"));
    let executor = start();
    let steps = (0..20).map(|_| executor.node(&template));
    let nodes = futures::future::join_all(steps).await;
    assert!(
        nodes.iter().all(|node| node["phase"] == "Succeeded"),
        "{nodes:?}"
    );
    assert_eq!(web.asked().len(), 1, "once for all steps of a workflow");
    drop(executor);

    let executor = start();
    assert_eq!(executor.node(&template).await["phase"], "Succeeded");
    let asked = web.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].1.contains_key("if-none-match"), "{asked:?}");
    drop(executor);

    *web.module.lock().unwrap() = std::fs::read(guest("show")).unwrap();
    let node = start().node(&template).await;
    assert!(
        node["outputs"]["result"]
            .as_str()
            .unwrap()
            .starts_with("args m.wasm"),
        "the new one: {node}"
    );
}

/// Whose server promises that nothing changes is not asked; whose server wants nothing kept is asked each time, and nothing is.
#[tokio::test]
async fn what_the_server_says_of_keeping_it_counts() {
    let (host, web) = Web::start().await;
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        Executor::start_with(Options {
            cache: Some(cache.path().to_owned()),
            ..options(&host)
        })
    };
    let template = at(&format!("http://{host}/m.wasm"));
    let asked = async |template: &Value| {
        assert_eq!(start().node(template).await["phase"], "Succeeded");
        web.asked().len()
    };
    web.say("cache-control", "max-age=600");
    assert_eq!(asked(&template).await, 1);
    assert_eq!(asked(&template).await, 0, "the server promised");
    let mut insisting = template.clone();
    insisting["plugin"]["wasm"]["pull"] = json!({"policy": "Always"});
    web.say("cache-control", "no-cache");
    assert_eq!(asked(&insisting).await, 1, "the template wants it asked");
    assert_eq!(asked(&template).await, 1, "and it took its promise back");

    // It promised again, and then wants nothing kept: what was kept is not what runs.
    web.say("cache-control", "max-age=600");
    assert_eq!((asked(&template).await, asked(&template).await), (1, 0));
    web.say("cache-control", "no-store");
    *web.module.lock().unwrap() = std::fs::read(guest("show")).unwrap();
    assert_eq!(asked(&insisting).await, 1);
    assert_eq!((asked(&template).await, asked(&template).await), (1, 1));
}

/// What must not be stored is not, whoever runs it how often, and nothing that others need goes with it.
#[tokio::test]
async fn what_must_not_be_stored_is_not() {
    let (host, web) = Web::start().await;
    let cache = tempfile::tempdir().unwrap();
    let executor = Executor::start_with(Options {
        cache: Some(cache.path().to_owned()),
        ..options(&host)
    });
    let module = web.module.lock().unwrap().clone();
    let pinned = at(&format!(
        "http://{host}/pinned.wasm#sha256={}",
        sources::Digest::of(&module).hex()
    ));
    assert_eq!(executor.node(&pinned).await["phase"], "Succeeded");
    let before = files_below(cache.path());
    web.say("cache-control", "no-store");
    let run = async |path: &str, workflow: &str| {
        let mut request = request(&at(&format!("http://{host}/{path}")));
        request["workflow"]["metadata"]["uid"] = json!(workflow);
        let (_, answer) = executor.post(request.to_string(), &executor.token).await;
        serde_json::from_str::<Value>(&answer).unwrap()["node"]["phase"]
            .as_str()
            .map(str::to_owned)
    };
    for workflow in ["u1", "u2", "u3"] {
        assert_eq!(run("m.wasm", workflow).await.as_deref(), Some("Succeeded"));
    }
    *web.module.lock().unwrap() = std::fs::read(guest("show")).unwrap();
    for workflow in ["u4", "u5"] {
        assert_eq!(run("m.wasm", workflow).await.as_deref(), Some("Succeeded"));
        assert_eq!(run("login.wasm", workflow).await.as_deref(), Some("Error"));
    }
    let kept: Vec<_> = files_below(cache.path())
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
    let gone: Vec<_> = before.iter().filter(|file| !file.exists()).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Nobody asks for a coding; where there is one all the same, the digest is of what is in it, and so are the bounds.
#[tokio::test]
async fn a_content_coding_is_undone() {
    let (host, web) = Web::start().await;
    let module = std::fs::read(guest("noop-command")).unwrap();
    let gzipped = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    *web.module.lock().unwrap() = gzipped(&module);
    web.say("content-encoding", "gzip");
    let executor = Executor::start_with(options(&host));
    let pinned = at(&format!(
        "http://{host}/m.wasm#sha256={}",
        sources::Digest::of(&module).hex()
    ));
    for template in [&pinned, &at(&format!("http://{host}/m.wasm"))] {
        let node = executor.node(template).await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
    }
    assert!(
        web.asked()
            .iter()
            .all(|(_, headers)| headers["accept-encoding"] == "identity")
    );
    *web.module.lock().unwrap() = gzipped(&vec![0; 300 << 20]);
    let node = executor
        .node(&at(&format!("http://{host}/bomb.wasm")))
        .await;
    assert!(message(&node).contains("the limit is 268435456"), "{node}");
    web.say("content-encoding", "br");
    let node = executor.node(&at(&format!("http://{host}/br.wasm"))).await;
    assert!(
        message(&node).contains("sends the content coding `br`, which the request did not ask for"),
        "{node}"
    );
}

#[tokio::test]
async fn what_is_no_module_is_said() {
    let (host, _web) = Web::start().await;
    let executor = Executor::start_with(options(&host));
    for (path, expected) in [
        (
            "login.wasm",
            "not WebAssembly but an HTML page, perhaps a login page",
        ),
        ("gone.wasm", "has no file `/gone.wasm`"),
    ] {
        let node = executor.node(&at(&format!("http://{host}/{path}"))).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{node}");
    }
    let mut template = at(&format!("http://{host}/m.wasm"));
    template["plugin"]["wasm"]["module"]["http"]["moduleDigest"] =
        json!("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let node = executor.node(&template).await;
    assert!(
        message(&node).contains("the module in it: expected content with digest"),
        "{node}"
    );
}

fn in_cluster(kubernetes: &Kubernetes, directory: &Path, hosts: &[&str]) -> Executor {
    let mut flags = vec![
        "--kubeconfig".to_owned(),
        kubernetes.kubeconfig(directory).display().to_string(),
    ];
    for host in hosts {
        flags.extend(["--insecure-registry".to_owned(), (*host).to_owned()]);
    }
    Executor::start_with(Options {
        flags,
        ..Options::default()
    })
}

fn secret(kind: &str, hosts: &str, data: &[(&str, &str)]) -> Value {
    let data: Value = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value))))
        .collect();
    json!({"type": kind, "metadata": {"annotations": {"wasm-workflow-executor/hosts": hosts}}, "data": data})
}

#[tokio::test]
async fn passwords_tokens_and_headers_from_secrets() {
    let ((host, web), kubernetes) = (Web::start().await, Kubernetes::start().await);
    let directory = tempfile::tempdir().unwrap();
    let basic = [("username", "ada"), ("password", "hunter2\n")];
    kubernetes.put(
        "secrets/basic",
        secret("kubernetes.io/basic-auth", &host, &basic),
    );
    kubernetes.put(
        "secrets/token",
        secret(
            "Opaque",
            &format!("other.example,{host}"),
            &[("token", "hunter2")],
        ),
    );
    kubernetes.put(
        "secrets/headers",
        secret("Opaque", &host, &[("headers", "X-Api-Key: hunter2\n")]),
    );
    kubernetes.put(
        "secrets/elsewhere",
        secret("Opaque", "other.example", &[("token", "hunter2")]),
    );
    kubernetes.put(
        "secrets/nowhere",
        secret("Opaque", "", &[("token", "hunter2")]),
    );
    kubernetes.put("secrets/empty", secret("Opaque", &host, &[]));
    let with = |name: &str| {
        let mut template = at(&format!("http://{host}/m.wasm"));
        template["plugin"]["wasm"]["module"]["http"]["authSecret"] = json!({"name": name});
        template
    };
    let executor = in_cluster(&kubernetes, directory.path(), &[&host]);
    for (name, header, value) in [
        (
            "basic",
            "authorization",
            format!("Basic {}", STANDARD.encode("ada:hunter2")),
        ),
        ("token", "authorization", "Bearer hunter2".to_owned()),
        ("headers", "x-api-key", "hunter2".to_owned()),
    ] {
        web.want(header, &value);
        let node = executor.node(&with(name)).await;
        assert_eq!(node["phase"], "Succeeded", "{name}: {node}");
    }
    web.asked();
    for (name, expected) in [
        ("basic", "with the credentials of Secret `basic`"),
        ("elsewhere", "(401 Unauthorized). It may need credentials"),
        ("nowhere", "it does not say for which hosts it is"),
        (
            "empty",
            "it needs `username` and `password`, or `token` alone",
        ),
    ] {
        web.want("x-api-key", "another");
        let executor = in_cluster(&kubernetes, directory.path(), &[&host]);
        let node = executor.node(&with(name)).await;
        assert_eq!(node["phase"], "Error", "{name}: {node}");
        assert!(message(&node).contains(expected), "{name}: {node}");
        assert!(!executor.log().contains("hunter2"), "{}", executor.log());
    }
    let sent = web.asked();
    assert!(sent.iter().all(|(_, headers)| {
        headers
            .get("authorization")
            .is_none_or(|sent| sent != "Bearer hunter2")
    }));
}

/// What a template says to one server, and what proves who asks there, is nobody else's.
#[tokio::test]
async fn nothing_follows_a_redirect_to_another_origin() {
    let ((host, web), (other, elsewhere)) = (Web::start().await, Web::start().await);
    let (kubernetes, directory) = (Kubernetes::start().await, tempfile::tempdir().unwrap());
    kubernetes.put(
        "secrets/headers",
        secret(
            "Opaque",
            &host,
            &[("headers", "X-Api-Key: hunter2\nCookie: c=1")],
        ),
    );
    *web.redirect.lock().unwrap() = Some(format!("http://{other}/m.wasm"));
    let mut template = at(&format!("http://{host}/m.wasm"));
    template["plugin"]["wasm"]["module"]["http"]["authSecret"] = json!({"name": "headers"});
    template["plugin"]["wasm"]["module"]["http"]["headers"] =
        json!({"Accept": "application/octet-stream", "X-Mine": 1});
    let node = in_cluster(&kubernetes, directory.path(), &[&host, &other])
        .node(&template)
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let (first, second) = (web.asked(), elsewhere.asked());
    for name in ["x-api-key", "cookie", "accept", "x-mine"] {
        assert!(first[0].1.contains_key(name), "{name}: {first:?}");
        assert!(
            name == "accept" || !second[0].1.contains_key(name),
            "{name}: {second:?}"
        );
    }
    assert_eq!(first[0].1["accept"], "application/octet-stream");
}

/// The operator's own are for web servers too.
#[tokio::test]
async fn the_operators_credentials_count() {
    let (host, web) = Web::start().await;
    web.want("authorization", "Bearer hunter2");
    let config = json!({"sources": {"insecure": [host], "credentials": [{"host": host, "tokenFrom": {"env": "TOKEN"}}]}});
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: vec![("TOKEN".to_owned(), "hunter2".to_owned())],
        ..Options::default()
    });
    assert_eq!(
        executor.node(&at(&format!("http://{host}/m.wasm"))).await["phase"],
        "Succeeded"
    );
    let mut template = at(&format!("http://{host}/m.wasm"));
    for (name, value) in [
        ("Authorization", "Bearer x"),
        ("PRIVATE-TOKEN", "x"),
        ("X-Api-Key", "x"),
    ] {
        template["plugin"]["wasm"]["module"]["http"]["headers"] = json!({name: value});
        let node = executor.node(&template).await;
        assert!(
            message(&node).contains("must not stand in a template: its value goes into a Secret"),
            "{node}"
        );
    }
}

/// A person at a terminal sees how far it is; `script` makes one.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_shows_its_progress_on_a_terminal() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let slow = async || {
        let module = padding(3 << 20, 7);
        let chunks: Vec<_> = module.chunks(512 << 10).map(<[u8]>::to_vec).collect();
        let chunks = futures::stream::iter(chunks).then(async |chunk| {
            tokio::time::sleep(Duration::from_millis(250)).await;
            Ok::<_, std::io::Error>(chunk)
        });
        (
            [("content-length", (3 << 20).to_string())],
            axum::body::Body::from_stream(chunks),
        )
    };
    tokio::spawn(async move {
        axum::serve(
            listener,
            Router::new().route("/m.wasm", axum::routing::get(slow)),
        )
        .await
    });
    let cli = Cli::new();
    let pull = format!(
        "{} pull http://{host}/m.wasm --insecure-registry {host}",
        program().display()
    );
    let mut terminal = std::process::Command::new("script");
    terminal
        .args(["--quiet", "--return", "--command", &pull, "/dev/null"])
        .env("TERM", "xterm");
    terminal
        .env("WASM_WORKFLOW_CACHE_DIR", cli.at("cache"))
        .env("WASM_WORKFLOW_SCRATCH_DIR", cli.at("scratch"));
    let output = tokio::task::spawn_blocking(move || terminal.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    for part in [
        "downloading 1.00 MiB of 3.00 MiB",
        "downloading 2.50 MiB of 3.00 MiB",
        "3145728 bytes of http://",
    ] {
        assert!(
            stdout(&output).contains(part),
            "{part}: {}",
            stdout(&output)
        );
    }
}
