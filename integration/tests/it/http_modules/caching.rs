//! Revalidation, and the `Cache-Control` of the web server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, request};
use wasm_workflow_integration::guests::guest;

use super::{Web, at, options};

/// Asked for again by each workflow, and sent again only when it changed.
#[tokio::test]
async fn modules_without_a_digest_are_revalidated_once_per_workflow() {
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
async fn cache_control_of_the_server_is_respected() {
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
async fn no_store_modules_are_never_kept_in_the_store() {
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
