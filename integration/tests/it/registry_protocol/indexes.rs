//! Indexes inside indexes.

use serde_json::json;

use super::{Document, MANIFEST, Server, assert_error, assert_ran};

const WASM: (&str, &str) = ("wasip1", "wasm");
const LINUX: (&str, &str) = ("linux", "amd64");

/// An entry for a document that the registry does not have.
fn absent(platform: (&str, &str)) -> serde_json::Value {
    let document = Document {
        media_type: MANIFEST,
        text: format!("{}/{}", platform.0, platform.1),
    };
    document.entry(Some(platform))
}

#[tokio::test]
async fn an_index_in_an_index_is_followed() {
    let module = Document::module();
    let labelled = Document::index(&[module.entry(Some(WASM))]);
    let plain = Document::index(&[module.entry(None)]);
    let attestation = absent(("unknown", "unknown"));
    let linux = Document::index(&[absent(LINUX), absent(("linux", "arm64"))]);
    for (what, middle, entries) in [
        (
            "the platform at each level",
            &labelled,
            vec![absent(LINUX), labelled.entry(Some(WASM))],
        ),
        (
            "the platform inside only",
            &labelled,
            vec![absent(LINUX), labelled.entry(None)],
        ),
        (
            "the platform outside only",
            &plain,
            vec![absent(LINUX), plain.entry(Some(WASM))],
        ),
        (
            "no platform at all",
            &plain,
            vec![plain.entry(None), attestation],
        ),
        (
            "several indexes",
            &labelled,
            vec![linux.entry(None), labelled.entry(None)],
        ),
        (
            "a wrong platform on the only entry",
            &labelled,
            vec![labelled.entry(Some(LINUX))],
        ),
    ] {
        let top = Document::index(&entries);
        let documents = vec![module.clone(), linux.clone(), middle.clone(), top];
        let registry = Server::with_documents(documents, |_| None).await;
        assert_ran(&registry.run("team/tool:1").await, what);
    }
}

#[tokio::test]
async fn indexes_are_followed_to_a_bound() {
    for (depth, runs) in [(20, true), (40, false)] {
        let mut documents = vec![Document::module()];
        for _ in 0..depth {
            let entry = documents.last().unwrap().entry(Some(WASM));
            documents.push(Document::index(&[entry]));
        }
        let registry = Server::with_documents(documents, |_| None).await;
        let node = registry.run("team/tool:1").await;
        match runs {
            true => assert_ran(&node, "20 levels"),
            false => assert_error(
                &node,
                "more than 32 indexes and manifests are below the index",
            ),
        }
        assert!(registry.take_requests().len() < 40);
    }
    // A wide index: each entry is an index without a module.
    let empty: Vec<Document> = (0..100)
        .map(|number| Document {
            media_type: super::INDEX,
            text: json!({"schemaVersion": 2, "manifests": [], "annotations": {"n": number.to_string()}})
                .to_string(),
        })
        .collect();
    let entries: Vec<_> = empty.iter().map(|document| document.entry(None)).collect();
    let documents = [empty, vec![Document::index(&entries)]].concat();
    let registry = Server::with_documents(documents, |_| None).await;
    let node = registry.run("team/tool:1").await;
    assert_error(
        &node,
        "more than 32 indexes and manifests are below the index",
    );
    assert!(registry.take_requests().len() < 40);
}

#[tokio::test]
async fn an_index_without_a_module_names_the_platforms_at_all_levels() {
    let inner = Document::index(&[absent(LINUX), absent(("linux", "arm64"))]);
    let top = Document::index(&[inner.entry(None), absent(("windows", "amd64"))]);
    let registry = Server::with_documents(vec![inner, top], |_| None).await;
    assert_error(
        &registry.run("team/tool:1").await,
        "its platforms are: windows/amd64, linux/amd64, linux/arm64",
    );
}
