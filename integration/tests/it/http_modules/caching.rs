//! Revalidation, and the `Cache-Control` of the web server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, request};
use wasm_workflow_integration::guests::guest;

use super::{WebServer, options};

/// A module without a digest is revalidated once for each workflow. The server sends the module
/// again only if it has changed.
#[tokio::test]
async fn modules_without_a_digest_are_revalidated_once_per_workflow() {
    let web = WebServer::start().await;
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        Executor::start_with(Options {
            cache: Some(cache.path().to_owned()),
            ..options(&web)
        })
    };
    let template = web.template("m.wasm");
    let executor = start();
    let steps = (0..20).map(|_| executor.node(&template));
    let nodes = futures::future::join_all(steps).await;
    assert!(
        nodes.iter().all(|node| node["phase"] == "Succeeded"),
        "{nodes:?}"
    );
    assert_eq!(
        web.take_requests().len(),
        1,
        "one request for all steps of a workflow"
    );
    drop(executor);

    let executor = start();
    assert_eq!(executor.node(&template).await["phase"], "Succeeded");
    let requests = web.take_requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].contains_key("if-none-match"), "{requests:?}");
    drop(executor);

    web.serve(std::fs::read(guest("show")).unwrap());
    let node = start().node(&template).await;
    assert!(
        node["outputs"]["result"]
            .as_str()
            .unwrap()
            .starts_with("args m.wasm"),
        "the new module runs: {node}"
    );
}

/// The `Cache-Control` header of the server decides about revalidation:
///
/// - `max-age`: the stored module is used without a request.
/// - `no-cache`: each workflow revalidates the module.
/// - `no-store`: each workflow downloads the module, and the module is not stored.
#[tokio::test]
async fn cache_control_of_the_server_is_respected() {
    let web = WebServer::start().await;
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        Executor::start_with(Options {
            cache: Some(cache.path().to_owned()),
            ..options(&web)
        })
    };
    let template = web.template("m.wasm");
    // Runs the template in a new executor, and returns the number of requests to the server.
    let requests = async |template: &Value| {
        assert_eq!(start().node(template).await["phase"], "Succeeded");
        web.take_requests().len()
    };
    web.add_header("cache-control", "max-age=600");
    assert_eq!(requests(&template).await, 1);
    assert_eq!(requests(&template).await, 0, "the stored module is fresh");
    let mut always = template.clone();
    always["plugin"]["wasm"]["pull"] = json!({"policy": "Always"});
    web.add_header("cache-control", "no-cache");
    assert_eq!(requests(&always).await, 1, "the pull policy is `Always`");
    assert_eq!(
        requests(&template).await,
        1,
        "the last answer had `no-cache`"
    );

    // First the module is stored as fresh. Then an answer with `no-store` makes the stored module
    // stale.
    web.add_header("cache-control", "max-age=600");
    assert_eq!(
        (requests(&template).await, requests(&template).await),
        (1, 0)
    );
    web.add_header("cache-control", "no-store");
    web.serve(std::fs::read(guest("show")).unwrap());
    assert_eq!(requests(&always).await, 1);
    assert_eq!(
        (requests(&template).await, requests(&template).await),
        (1, 1)
    );
}

/// Modules from answers with `no-store` are never stored. Removing them does not remove other files
/// of the store.
#[tokio::test]
async fn no_store_modules_are_never_kept_in_the_store() {
    let web = WebServer::start().await;
    let cache = tempfile::tempdir().unwrap();
    let executor = Executor::start_with(Options {
        cache: Some(cache.path().to_owned()),
        ..options(&web)
    });
    let module = std::fs::read(guest("noop-command")).unwrap();
    let pinned = web.template(&format!(
        "pinned.wasm#sha256={}",
        sources::Digest::of(&module).hex()
    ));
    assert_eq!(executor.node(&pinned).await["phase"], "Succeeded");
    let before = files_below(cache.path());
    web.add_header("cache-control", "no-store");
    // Runs the module at a path for a workflow, and returns the phase of the node.
    let run = async |path: &str, workflow: &str| {
        let mut request = request(&web.template(path));
        request["workflow"]["metadata"]["uid"] = json!(workflow);
        let reply = executor.post(request.to_string(), &executor.token).await;
        serde_json::from_str::<Value>(&reply.body).unwrap()["node"]["phase"]
            .as_str()
            .map(str::to_owned)
    };
    for workflow in ["u1", "u2", "u3"] {
        assert_eq!(run("m.wasm", workflow).await.as_deref(), Some("Succeeded"));
    }
    web.serve(std::fs::read(guest("show")).unwrap());
    for workflow in ["u4", "u5"] {
        assert_eq!(run("m.wasm", workflow).await.as_deref(), Some("Succeeded"));
        assert_eq!(run("login.wasm", workflow).await.as_deref(), Some("Error"));
    }
    let added: Vec<_> = files_below(cache.path())
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    assert!(added.is_empty(), "{added:?}");
    let removed: Vec<_> = before.iter().filter(|file| !file.exists()).collect();
    assert!(removed.is_empty(), "{removed:?}");
}

/// Paths of all files in a directory and its subdirectories.
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

/// The server of one workflow forbids to store a module with large metadata, and another server
/// allows it. The error of the first workflow is not remembered for the second one.
#[tokio::test]
async fn a_module_that_is_too_large_for_memory_does_not_fail_for_those_who_may_store_it() {
    let (forbids, allows) = (WebServer::start().await, WebServer::start().await);
    forbids.add_header("cache-control", "no-store");
    let module = wat::parse_str(with_exports(120_000)).unwrap();
    for server in [&forbids, &allows] {
        server.serve(module.clone());
    }
    let insecure = [&forbids.host, &allows.host];
    let config = json!({"capacity": {"compileMemory": "512Mi"}, "sources": {"insecure": insecure}});
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        ..Options::default()
    });
    let node = executor.node(&forbids.template("m.wasm")).await;
    assert_eq!(node["phase"], "Failed", "{node}");
    let expected = "the machine code and the metadata of the module are larger than 128Mi";
    let message = node["message"].as_str().unwrap();
    assert!(message.contains(expected), "{node}");
    let mut allowed = allows.template("m.wasm");
    let node = executor.node(&allowed).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    // Each step is charged with the metadata.
    allowed["plugin"]["wasm"]["limits"] = json!({"memory": "64Mi"});
    let node = executor.node(&allowed).await;
    assert_eq!(node["phase"], "Failed", "{node}");
    let message = node["message"].as_str().unwrap();
    assert!(message.contains("memory limit of 64Mi exceeded"), "{node}");
}

/// A module with this number of exports.
fn with_exports(number: usize) -> String {
    let exports: Vec<String> = (0..number)
        .map(|number| format!(r#"(export "export-{number:030}" (func $start))"#))
        .collect();
    let exports = exports.concat();
    format!(r#"(module (memory (export "memory") 1) (func $start (export "_start")) {exports})"#)
}
