//! A namespace runs a module of the store only after it has downloaded the module itself.

use wasm_workflow_integration::executor::{Executor, Options};

use super::*;
use crate::message;

/// A template with a module at a path of the server, and its digest.
fn with_digest(web: &WebServer, path: &str, digest: &sources::Digest) -> Value {
    let url = format!("http://{}/{path}", web.host);
    template_of_module(json!({"http": {"url": url, "digest": digest.to_string()}}))
}

#[tokio::test]
async fn a_namespace_that_knows_only_the_digest_of_a_private_module_cannot_run_it() {
    let web = WebServer::start().await;
    let digest = sources::Digest::of(&std::fs::read(guest("noop-command")).unwrap());
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        Executor::start_with(Options {
            cache: Some(cache.path().to_owned()),
            ..options(&web)
        })
    };
    let private = with_digest(&web, "private.wasm", &digest);
    let guessed = with_digest(&web, "gone.wasm", &digest);
    let executor = start();
    let node = executor.node_in("owner", &private).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    // The compiled code is in memory now, and after the restart on disk.
    for executor in [executor, start()] {
        let node = executor.node_in("other", &guessed).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(
            message(&node).contains("has no file `/gone.wasm`"),
            "{node}"
        );
        let node = executor.node_in("owner", &guessed).await;
        assert_eq!(
            node["phase"], "Succeeded",
            "the namespace has downloaded the content before: {node}"
        );
    }
}

/// The second download is the proof that the namespace has access.
#[tokio::test]
async fn each_namespace_downloads_a_module_once() {
    let web = WebServer::start().await;
    let digest = sources::Digest::of(&std::fs::read(guest("noop-command")).unwrap());
    let executor = Executor::start_with(options(&web));
    let template = with_digest(&web, "m.wasm", &digest);
    for (namespace, requests) in [("a", 1), ("a", 0), ("b", 1), ("b", 0), ("a", 0)] {
        let node = executor.node_in(namespace, &template).await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
        let made = web.take_requests().len();
        assert_eq!(made, requests, "requests for namespace {namespace}");
    }
}
