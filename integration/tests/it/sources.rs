//! Modules from a real registry and from web servers. Either the requested module runs, or the step
//! is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};
use sources::Digest;
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::registry::Registry;

use crate::{insecure, message};

const CNCF: &str = "application/vnd.wasm.config.v0+json";
const IMAGE: &str = "application/vnd.oci.image.config.v1+json";

fn of(module: Value) -> Value {
    json!({"name": "t", "inputs": {"parameters": [{"name": "text", "value": "Hello"}]}, "plugin": {"wasm": {"module": module}}})
}

#[tokio::test]
async fn every_layer_type_runs_by_tag_and_by_digest() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let module = std::fs::read(guests::guest("noop-command")).unwrap();
    let layouts = [
        (CNCF, "application/wasm"),
        (
            "application/vnd.wasm.config.v1+json",
            "application/vnd.wasm.content.layer.v1+wasm",
        ),
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.module.wasm.content.layer.v1+wasm",
        ),
    ];
    for (number, (config, layer)) in layouts.into_iter().enumerate() {
        let name = format!("modules/noop{number}:1.0.0");
        let digest = registry.push(&name, config, &[(layer, &module)]).await;
        for reference in [
            json!({"oci": format!("{}/{name}", registry.host)}),
            json!(format!("oci://{}/{name}@{digest}", registry.host)),
            json!({"oci": {"ref": format!("{}/modules/noop{number}@{digest}", registry.host)}}),
        ] {
            let node = executor.node(&of(reference)).await;
            assert_eq!(node["phase"], "Succeeded", "{node}");
            assert!(
                message(&node).ends_with(&format!("module {}", Digest::of(&module).short())),
                "{node}"
            );
        }
    }
}

#[tokio::test]
async fn missing_and_invalid_modules_are_named_in_the_error() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let host = &registry.host;
    let module = std::fs::read(guests::guest("noop-command")).unwrap();
    let digest = registry.push_module("m:1", &module).await;
    registry
        .push(
            "two:1",
            CNCF,
            &[
                ("application/wasm", &module),
                ("application/wasm", b"other"),
            ],
        )
        .await;
    registry
        .push(
            "tar:1",
            IMAGE,
            &[("application/vnd.oci.image.layer.v1.tar", b"tar")],
        )
        .await;
    registry
        .push("none:2", IMAGE, &[("application/octet-stream", b"data")])
        .await;
    registry
        .push(
            "page:1",
            CNCF,
            &[("application/wasm", b"<html>Sign in</html>")],
        )
        .await;
    let wrong = digest.replace(
        &digest[7..11],
        if digest[7..11] == *"0000" {
            "1111"
        } else {
            "0000"
        },
    );
    let cases = [
        (
            format!("{host}/m:none"),
            "has no tag `none` of `m`".to_owned(),
        ),
        (
            format!("{host}/none:1"),
            "has no tag `1` of `none`".to_owned(),
        ),
        (
            format!("{host}/m@{wrong}"),
            format!("has no manifest `{wrong}`"),
        ),
        (
            format!("{host}/two:1"),
            "the artifact contains 2 modules".to_owned(),
        ),
        (format!("{host}/tar:1"), "the archive is damaged".to_owned()),
        (
            format!("{host}/none:2"),
            "its layers are: application/octet-stream".to_owned(),
        ),
        (
            format!("{host}/page:1"),
            "this is not WebAssembly but an HTML page, perhaps a login page".to_owned(),
        ),
    ];
    for (reference, expected) in cases {
        let node = executor.node(&of(json!({"oci": reference}))).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(&expected), "{node}");
    }
}

#[tokio::test]
async fn registries_that_are_down_or_not_allowed_are_errors() {
    let port = wasm_workflow_integration::free_port();
    let down = format!("127.0.0.1:{port}");
    let node = insecure(&down)
        .node(&of(json!({"oci": format!("{down}/m:1")})))
        .await;
    assert_eq!(node["phase"], "Error");
    assert!(
        message(&node).contains(&format!(
            "after 4 attempts: `http://{down}` cannot be reached"
        )),
        "{node}"
    );
    let node = Executor::start()
        .node(&of(json!({"oci": format!("{down}/m:1")})))
        .await;
    assert!(
        message(&node)
            .contains("requests to such addresses are refused. Ask the operator to allow this host under `sources.insecure`"),
        "{node}"
    );
    let metadata = json!({"oci": "169.254.169.254/m:1"});
    let node = Executor::start().node(&of(metadata)).await;
    assert!(
        message(&node)
            .contains("(a link-local address), and requests to such addresses are refused"),
        "{node}"
    );
}

/// The registry is stopped. Its module still runs from the store, unless the pull policy forbids
/// that.
#[tokio::test]
async fn stored_modules_run_without_the_registry() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let module = std::fs::read(guests::guest("noop-command")).unwrap();
    registry.push_module("m:1", &module).await;
    let reference = json!({"oci": format!("{}/m:1", registry.host)});
    let with_policy = |policy: &str| {
        let mut template = of(reference.clone());
        template["plugin"]["wasm"]["pull"] = json!({"policy": policy});
        template
    };
    let node = executor.node(&with_policy("Never")).await;
    assert!(
        message(&node).contains("is not in the store, and the pull policy is `Never`"),
        "{node}"
    );
    assert_eq!(
        executor.node(&with_policy("IfNotPresent")).await["phase"],
        "Succeeded"
    );
    drop(registry);
    assert_eq!(
        executor.node(&with_policy("IfNotPresent")).await["phase"],
        "Succeeded"
    );
    assert_eq!(
        executor.node(&with_policy("Never")).await["phase"],
        "Succeeded"
    );
}

/// A running web server. It ends with the runtime of the test.
struct WebServer {
    /// Address of the server: `127.0.0.1:PORT`.
    host: String,
    /// Number of requests so far.
    requests: Arc<AtomicUsize>,
}

/// Starts a web server that answers every request alike.
async fn web_server(status: u16, headers: HeaderMap, body: Vec<u8>) -> WebServer {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let handler = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        (
            StatusCode::from_u16(status).unwrap(),
            headers.clone(),
            body.clone(),
        )
    };
    let router = Router::new().route("/{*path}", get(handler));
    WebServer {
        host: wasm_workflow_integration::serve(router).await,
        requests,
    }
}

#[tokio::test]
async fn concurrent_steps_download_and_compile_a_module_once() {
    let module = std::fs::read(guests::guest("noop-command")).unwrap();
    let WebServer { host, requests } = web_server(200, HeaderMap::new(), module.clone()).await;
    let executor = insecure(&host);
    let step = of(
        json!({"http": {"url": format!("http://{host}/m.wasm"), "digest": Digest::of(&module)}}),
    );
    let nodes = futures::future::join_all((0..50).map(|_| executor.node(&step))).await;
    assert!(
        nodes.iter().all(|node| node["phase"] == "Succeeded"),
        "{nodes:?}"
    );
    assert_eq!(
        requests.load(Ordering::SeqCst),
        1,
        "one download for fifty steps"
    );
    assert_eq!(
        executor.log().matches("compiled").count(),
        1,
        "one compilation for fifty steps"
    );
    let wrong = Digest::of(b"something else");
    let node = executor
        .node(&of(json!(format!(
            "http://{host}/m.wasm#sha256={}",
            wrong.hex()
        ))))
        .await;
    assert_eq!(node["phase"], "Error");
    assert!(
        message(&node).contains(&format!(
            "expected content with digest `{wrong}`, got `{}`",
            Digest::of(&module)
        )),
        "{node}"
    );
}

#[tokio::test]
async fn misbehaving_web_servers_are_errors() {
    let digest = Digest::of(b"x");
    let step = |host: &str| {
        of(json!({"http": {"url": format!("http://{host}/m.wasm"), "digest": digest}}))
    };
    let redirect = HeaderMap::from_iter([(
        axum::http::header::LOCATION,
        "http://169.254.169.254/latest/".parse().unwrap(),
    )]);
    let cases = [
        (
            302,
            redirect,
            vec![],
            "(a link-local address), and requests to such addresses are refused",
        ),
        (404, HeaderMap::new(), vec![], "has no file `/m.wasm`"),
        (
            403,
            HeaderMap::new(),
            vec![],
            "refuses file `/m.wasm` (403 Forbidden). The server may require credentials",
        ),
        (500, HeaderMap::new(), vec![], "failed with 500"),
        (
            200,
            HeaderMap::new(),
            vec![0; 2 << 20],
            "the limit is 1048576",
        ),
    ];
    for (status, headers, body, expected) in cases {
        let WebServer { host, .. } = web_server(status, headers, body).await;
        let config = json!({"sources": {"insecure": [host], "maxModuleSize": "1Mi"}}).to_string();
        let executor = Executor::start_with(Options {
            config: Some(config),
            ..Options::default()
        });
        let node = executor.node(&step(&host)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{status}: {node}");
        assert!(
            !message(&node).contains("--insecure-registry"),
            "the message does not explain how to allow plain HTTP: {node}"
        );
        let left = std::fs::read_dir(executor.directory().join("cache/tmp"))
            .map_or(0, std::iter::Iterator::count);
        assert_eq!(left, 0, "no partial file is left");
    }
}

/// A server allows modules from files only below the directory that the operator configures.
#[tokio::test]
async fn modules_from_files_need_permission_of_the_operator() {
    let executor = Executor::start_with(Options {
        config: Some(String::new()),
        ..Options::default()
    });
    let node = executor.node(&template("noop-command")).await;
    assert!(
        message(&node).contains("modules from files are not allowed here"),
        "{node}"
    );
    let node = Executor::start()
        .node(&of(json!("file:///etc/passwd")))
        .await;
    assert!(
        message(&node).contains("is outside the directory `sources.fileRoot`"),
        "{node}"
    );
}

/// A new process reuses the compiled code of an earlier process. Damaged code is compiled again.
#[tokio::test]
async fn compiled_code_is_reused_after_a_restart_unless_damaged() {
    let code = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        code.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let flags = vec!["--code-dir".to_owned(), code.path().display().to_string()];
    let run = async || {
        let executor = Executor::start_with(Options {
            flags: flags.clone(),
            ..Options::default()
        });
        assert_eq!(
            executor.node(&template("noop-command")).await["phase"],
            "Succeeded"
        );
        // Log lines arrive a little later than replies.
        wasm_workflow_integration::eventually("the log line of the step", async || {
            executor.log().contains("phase=")
        })
        .await;
        executor.log()
    };
    assert!(run().await.contains("compiled"));
    let log = run().await;
    assert!(
        log.contains("loaded compiled code") && !log.contains("milliseconds="),
        "{log}"
    );
    let engine = std::fs::read_dir(code.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let files = std::fs::read_dir(engine)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let compiled = files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "cwasm")
        })
        .collect::<Vec<_>>();
    std::fs::write(&compiled[0], b"\x7fELF damaged").unwrap();
    let log = run().await;
    assert!(
        log.contains("the compiled code on disk is damaged") && log.contains("milliseconds="),
        "{log}"
    );
}
