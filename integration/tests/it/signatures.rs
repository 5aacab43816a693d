//! Modules that cosign signed, in both of its layouts, and the operator's rules about signatures.

use std::path::{Path, PathBuf};

use axum::response::IntoResponse;
use serde_json::{Value, json};
use sources::Digest;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::{guest, repository};
use wasm_workflow_integration::registry::Registry;

use crate::hostile_registry::ScriptedRegistry;
use crate::{message, template_of_module};

/// Digest of the manifest of the signed module.
const SIGNED: &str = "sha256:6409e974995128eb8b60b85984baea0a307201d0382604a3ac225d5dd4712747";
/// Another public key, with which nothing is signed.
const OTHER: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9UmbuIihhpMBkaiWVVHuPAMAyZVE0AYG8UsmxMwBqYm0qsNNSr5Vkmfz207ozxWMoMDPdn2jpQuZPM7VVbY8RQ==\n-----END PUBLIC KEY-----\n";

fn fixtures() -> PathBuf {
    repository().join("integration/fixtures/cosign")
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(fixtures().join(path)).unwrap()
}

fn blobs() -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fixtures().join("blobs")).unwrap();
    entries
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect()
}

/// Stores the blobs and manifests of a repository, as cosign wrote them.
async fn put(registry: &Registry, name: &str) {
    for blob in blobs() {
        registry
            .put_blob(name, "application/octet-stream", &blob)
            .await;
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(fixtures().join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // The registry requires that a list is stored after the manifests that it lists.
    files.sort_by_key(|file| {
        file.file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("sha256-")
    });
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let tag = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let tag = if tag == "bundle" {
            Digest::of(&bytes).to_string()
        } else {
            tag
        };
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        registry
            .put_bytes(name, &tag, document["mediaType"].as_str().unwrap(), bytes)
            .await;
    }
}

fn executor(host: &str, key: &str, cache: Option<&Path>) -> Executor {
    let rules = json!([{"references": ["oci://*/legacy*", "oci://*/bundled*", "oci://*/m*", "https://*", "http://*"], "keys": [key]}]);
    let config = json!({"sources": {"insecure": [host], "policy": {"signatures": rules}}});
    Executor::start_with(Options {
        config: Some(config.to_string()),
        cache: cache.map(Path::to_owned),
        ..Options::default()
    })
}

fn of(host: &str, name: &str) -> Value {
    template_of_module(json!({"oci": format!("{host}/{name}")}))
}

fn key() -> String {
    String::from_utf8(read("cosign.pub")).unwrap()
}

#[tokio::test]
async fn only_modules_signed_with_the_configured_key_run() {
    let registry = Registry::start();
    let host = &registry.host;
    for name in ["legacy", "bundled"] {
        put(&registry, name).await;
    }
    let signed = executor(host, &key(), None);
    for name in ["legacy:1", "bundled:1", &format!("legacy@{SIGNED}")] {
        let node = signed.node(&of(host, name)).await;
        assert_eq!(node["phase"], "Succeeded", "{name}: {node}");
    }
    let other = executor(host, OTHER, None);
    for name in ["legacy:1", "bundled:1"] {
        let node = other.node(&of(host, name)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        let expected =
            "the module has a signature, but not one that `sources.policy.signatures[0]` requires";
        assert!(message(&node).contains(expected), "{name}: {node}");
    }
    // Unsigned modules: with another tag of a signed repository, with the tag of a signed module,
    // and in a repository without signatures.
    let module = std::fs::read(guest("noop-command")).unwrap();
    for name in ["legacy:2", "bundled:1", "m:1"] {
        registry.push_module(name, &module).await;
        let node = executor(host, &key(), None).node(&of(host, name)).await;
        assert!(
            message(&node).contains(
                "the module has no signature, and `sources.policy.signatures[0]` requires one"
            ),
            "{node}"
        );
    }
    registry.push_module("free:1", &module).await;
    assert_eq!(
        signed.node(&of(host, "free:1")).await["phase"],
        "Succeeded",
        "no rule matches this module"
    );
    let url = template_of_module(json!({"http": {"url": format!("http://{host}/m.wasm")}}));
    assert!(
        message(&signed.node(&url).await).contains("which only modules in OCI registries can have")
    );
}

/// A module that was fetched without a rule is verified once a rule applies.
#[tokio::test]
async fn stored_modules_are_verified_against_the_current_rules() {
    let registry = Registry::start();
    let host = registry.host.clone();
    put(&registry, "legacy").await;
    let cache = tempfile::tempdir().unwrap();
    let mut template = of(&host, "legacy:1");
    let options = Options {
        flags: vec!["--insecure-registry".to_owned(), host.clone()],
        cache: Some(cache.path().to_owned()),
        ..Options::default()
    };
    assert_eq!(
        Executor::start_with(options).node(&template).await["phase"],
        "Succeeded"
    );
    template["plugin"]["wasm"]["pull"] = json!({"policy": "Never"});
    let node = executor(&host, &key(), Some(cache.path()))
        .node(&template)
        .await;
    assert!(
        message(&node).contains("is in the store without a verified signature"),
        "{node}"
    );
    template["plugin"]["wasm"]["pull"] = json!({"policy": "IfNotPresent"});
    assert_eq!(
        executor(&host, &key(), Some(cache.path()))
            .node(&template)
            .await["phase"],
        "Succeeded"
    );
    drop(registry);
    let node = executor(&host, &key(), Some(cache.path()))
        .node(&template)
        .await;
    assert_eq!(
        node["phase"], "Succeeded",
        "the stored module is verified already: {node}"
    );
    let node = executor(&host, OTHER, Some(cache.path()))
        .node(&template)
        .await;
    assert_eq!(node["phase"], "Error", "another rule applies: {node}");
}

/// A registry with the signed module and its bundle. It lists no signatures.
async fn with_bundle() -> ScriptedRegistry {
    let registry = ScriptedRegistry::start().await;
    for blob in blobs() {
        registry.on(&format!("GET blobs/{}", Digest::of(&blob)), move |_| {
            blob.clone().into_response()
        });
    }
    for document in [read("bundled/1.json"), read("bundled/bundle.json")] {
        put_document(&registry, document);
    }
    registry
}

/// Adds a document under its digest.
fn put_document(registry: &ScriptedRegistry, document: Vec<u8>) {
    let digest = Digest::of(&document);
    registry.on(&format!("GET manifests/{digest}"), move |_| {
        document.clone().into_response()
    });
}

/// The list of referrers of the signed module.
fn referrers() -> Value {
    serde_json::from_slice(&read(format!("bundled/{}.json", SIGNED.replace(':', "-")))).unwrap()
}

/// Runs the signed module. Checks that it runs with the right key only.
async fn assert_signed(registry: &ScriptedRegistry, what: &str) {
    let host = &registry.host;
    let template = of(host, &format!("m@{SIGNED}"));
    let node = executor(host, &key(), None).node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{what}: {node}");
    let node = executor(host, OTHER, None).node(&template).await;
    assert_eq!(node["phase"], "Error", "{what}: {node}");
}

/// A registry with the referrers API has no list of signatures under a tag.
#[tokio::test]
async fn signatures_are_found_through_the_referrers_api() {
    let registry = with_bundle().await;
    let mut list = referrers();
    // A listed signature that no longer exists must not hide the others.
    let mut gone = list["manifests"][0].clone();
    gone["digest"] = json!(Digest::of(b"gone"));
    list["manifests"].as_array_mut().unwrap().insert(0, gone);
    let list = list.to_string();
    registry.on(&format!("GET referrers/{SIGNED}"), move |_| {
        list.clone().into_response()
    });
    assert_signed(&registry, "one page").await;
}

#[tokio::test]
async fn signatures_on_later_pages_and_in_indexes_are_found() {
    let registry = with_bundle().await;
    let list = referrers();
    let empty = json!({"schemaVersion": 2, "mediaType": list["mediaType"], "manifests": []});
    let link = format!("</v2/m/referrers/{SIGNED}/2?n=1>; rel=\"next\"");
    let first = empty.to_string();
    registry.on(&format!("GET referrers/{SIGNED}"), move |_| {
        ([("link", link.clone())], first.clone()).into_response()
    });
    let second = list.to_string();
    registry.on(&format!("GET referrers/{SIGNED}/2"), move |_| {
        second.clone().into_response()
    });
    assert_signed(&registry, "the second page").await;

    let registry = with_bundle().await;
    let inner = list.to_string().into_bytes();
    let entry =
        json!({"mediaType": list["mediaType"], "digest": Digest::of(&inner), "size": inner.len()});
    put_document(&registry, inner);
    let outer = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    registry.on(&format!("GET referrers/{SIGNED}"), move |_| {
        outer.clone().into_response()
    });
    assert_signed(&registry, "an index in the list").await;
}

/// The tag of a signature names an index, which names the signature.
#[tokio::test]
async fn a_signature_below_an_index_is_found() {
    let registry = Registry::start();
    let host = &registry.host;
    put(&registry, "legacy").await;
    let tag = format!("{}.sig", SIGNED.replace(':', "-"));
    let signature = read(format!("legacy/{tag}.json"));
    let manifest: Value = serde_json::from_slice(&signature).unwrap();
    let entry = json!({"mediaType": manifest["mediaType"], "digest": Digest::of(&signature), "size": signature.len()});
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]});
    registry.put_manifest("legacy", &tag, kind, &index).await;
    let node = executor(host, &key(), None)
        .node(&of(host, "legacy:1"))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let node = executor(host, OTHER, None)
        .node(&of(host, "legacy:1"))
        .await;
    assert_eq!(node["phase"], "Error", "{node}");
}
