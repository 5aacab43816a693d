//! Packages by name, archives with two digests, and the operator's policy.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use sources::Digest;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::registry::Registry;

use crate::{message, packed, template_of_module as of};

fn start(sources: &Value) -> Executor {
    Executor::start_with(Options {
        config: Some(json!({"sources": sources}).to_string()),
        ..Options::default()
    })
}

fn noop() -> Vec<u8> {
    std::fs::read(guests::guest("noop-command")).unwrap()
}

/// Starts a web server with one file. All other paths have the status `otherwise`. Returns its
/// address.
async fn serve(path: &'static str, body: Vec<u8>, otherwise: u16) -> String {
    let otherwise = StatusCode::from_u16(otherwise).unwrap();
    let router = Router::new()
        .route(path, get(async move || body))
        .fallback(async move || otherwise);
    wasm_workflow_integration::serve(router).await
}

#[tokio::test]
async fn packages_are_found_in_the_registry_of_their_namespace() {
    const METADATA: &str = "/.well-known/wasm-pkg/registry.json";
    let registry = Registry::start();
    for tag in ["1.4.0", "1.10.0", "2.0.0-rc.1", "latest"] {
        registry
            .push_module(&format!("packages/acme/noop:{tag}"), &noop())
            .await;
    }
    registry.push_module("plain/noop:1.0.0", &noop()).await;
    let metadata = json!({"preferredProtocol": "oci", "oci": {"registry": registry.host, "namespacePrefix": "packages/"}});
    let old = json!({"ociRegistry": registry.host, "ociNamespacePrefix": "packages/"});
    let current = serve(METADATA, metadata.to_string().into_bytes(), 404).await;
    let deprecated = serve(METADATA, old.to_string().into_bytes(), 404).await;
    let broken = serve("/x", Vec::new(), 500).await;
    let warg = br#"{"preferredProtocol": "warg"}"#;
    let other = serve(METADATA, warg.to_vec(), 404).await;
    let insecure = [&registry.host, &current, &deprecated, &broken, &other];
    let namespaces =
        json!({"acme": current, "broken": broken, "other": other, "plain": registry.host});
    let executor = start(&json!({"insecure": insecure, "wkg": {"namespaces": namespaces}}));
    for module in [
        json!({"wkg": "acme:noop@1.4.0"}),
        json!("wkg:acme:noop@1.10.0"),
        json!({"wkg": "acme:noop"}),
        json!({"wkg": "plain:noop@1.0.0"}),
    ] {
        let node = executor.node(&of(module.clone())).await;
        assert_eq!(node["phase"], "Succeeded", "{module}: {node}");
    }
    let newest = executor.log();
    assert!(newest.contains("reference=wkg:acme:noop "), "{newest}");
    let all = start(&json!({"insecure": insecure, "wkg": {"default": deprecated}}));
    assert_eq!(
        all.node(&of(json!({"wkg": "acme:noop@1.4.0"}))).await["phase"],
        "Succeeded",
        "the deprecated form of the metadata"
    );
    let cases = [
        (
            "acme:noop@9.9.9",
            "has no tag `9.9.9` of `packages/acme/noop`",
        ),
        (
            "nobody:noop@1.0.0",
            "no registry is known for the namespace `nobody`",
        ),
        ("broken:noop@1.0.0", "failed with 500"),
        (
            "other:noop@1.0.0",
            "prefers the protocol `warg`; only `oci` is supported",
        ),
        ("acme:noop@^1", "its version must be exact"),
    ];
    for (package, expected) in cases {
        let node = executor.node(&of(json!({"wkg": package}))).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{package}: {node}");
    }
}

#[tokio::test]
async fn digests_of_an_archive_and_of_its_module_are_verified() {
    let packed = packed("bin/noop.wasm", &noop());
    let digest = Digest::of(&packed);
    let module = Digest::of(&noop());
    let host = serve("/m.tar.gz", packed, 404).await;
    let executor = start(&json!({"insecure": [host]}));
    let url = format!("http://{host}/m.tar.gz");
    for right in [
        json!({"http": {"url": url, "digest": digest}}),
        json!({"http": {"url": url, "digest": digest, "moduleDigest": module}}),
        json!(format!("{url}#sha256={}&module={module}", digest.hex())),
    ] {
        let node = executor.node(&of(right)).await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
        assert!(
            message(&node).ends_with(&format!("module {}", module.short())),
            "{node}"
        );
    }
    let node = executor
        .node(&of(
            json!({"http": {"url": url, "digest": digest, "moduleDigest": digest}}),
        ))
        .await;
    assert_eq!(node["phase"], "Error");
    assert!(
        message(&node).contains(&format!(
            "the unpacked module: expected content with digest `{digest}`"
        )),
        "{node}"
    );
}

#[tokio::test]
async fn modules_that_the_policy_forbids_do_not_run() {
    let registry = Registry::start();
    let host = &registry.host;
    let digest = registry.push_module("acme/noop:1.0.0", &noop()).await;
    registry.push_module("other/noop:1.0.0", &noop()).await;
    let policy = json!({
        "allow": [format!("oci://{host}/acme/*"), "wkg:acme:*"],
        "requireDigest": [format!("oci://{host}/acme/pinned*")],
        "hosts": [host, "127.0.0.1"],
    });
    let namespaces = json!({"acme": host, "other": host});
    let executor =
        start(&json!({"insecure": [host], "policy": policy, "wkg": {"namespaces": namespaces}}));
    let allowed = [
        json!({"oci": format!("{host}/acme/noop:1.0.0")}),
        json!({"oci": format!("{host}/acme/noop@{digest}")}),
        json!({"wkg": "acme:noop@1.0.0"}),
    ];
    for module in allowed {
        assert_eq!(
            executor.node(&of(module.clone())).await["phase"],
            "Succeeded",
            "{module}"
        );
    }
    let refused = [
        (
            json!({"oci": format!("{host}/other/noop:1.0.0")}),
            "policy does not allow this module",
        ),
        (
            json!({"wkg": "other:noop@1.0.0"}),
            "policy does not allow this module",
        ),
        (
            json!({"oci": format!("{host}/acme/pinned:1.0.0")}),
            "policy requires a digest for this module",
        ),
    ];
    for (module, expected) in refused {
        let node = executor.node(&of(module)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{node}");
    }
    // The policy allows the name of the package, but not the reference to which the name resolves.
    let policy = json!({"allow": ["wkg:*"], "hosts": [host]});
    let executor =
        start(&json!({"insecure": [host], "policy": policy, "wkg": {"namespaces": namespaces}}));
    let node = executor.node(&of(json!({"wkg": "acme:noop@1.0.0"}))).await;
    assert!(
        message(&node).contains("policy does not allow this module"),
        "{node}"
    );
    let executor = start(&json!({"insecure": [host], "policy": {"hosts": ["ghcr.io"]}}));
    let node = executor
        .node(&of(json!({"oci": format!("{host}/acme/noop:1.0.0")})))
        .await;
    assert!(
        message(&node).contains(&format!("does not allow requests to `{host}`")),
        "{node}"
    );
}
