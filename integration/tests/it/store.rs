//! The store after killed processes, and with several processes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::IntoResponse;
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::registry::Registry;

use crate::cli::{Cli, stderr, stdout};
use crate::hostile_registry::ScriptedRegistry;

/// `pull` is killed three times during its download. No part of the module is in the store
/// afterwards, and the next `pull` succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_leaves_no_stored_module() {
    let cli = Cli::new();
    let module = std::fs::read(guest("ferris-says")).unwrap();
    let registry = ScriptedRegistry::start().await;
    let layer = registry.push_module(&module).layer;
    let content = module.clone();
    let length = module.len();
    registry.on(&format!("GET blobs/{layer}"), move |before| {
        let chunks: Vec<_> = content
            .chunks(64 << 10)
            .map(bytes::Bytes::copy_from_slice)
            .collect();
        // The first three downloads are slow, so that the test can kill them.
        let wait = Duration::from_millis(if before < 3 { 100 } else { 0 });
        let slowly = futures::stream::unfold(chunks.into_iter(), move |mut chunks| async move {
            tokio::time::sleep(wait).await;
            Some((Ok::<_, std::io::Error>(chunks.next()?), chunks))
        });
        (
            [(axum::http::header::CONTENT_LENGTH, length)],
            Body::from_stream(slowly),
        )
            .into_response()
    });
    let pull = [
        "pull",
        "--insecure-registry",
        &registry.host,
        &format!("oci://{}/m:1", registry.host),
    ];
    for _ in 0..3 {
        let mut child = cli
            .command(&pull)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let writing =
            || std::fs::read_dir(cli.at("cache/tmp")).is_ok_and(|entries| entries.count() > 0);
        while !writing() && started.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(
            child.try_wait().unwrap().is_none(),
            "the download still runs"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = cli.run(&["cache", "list"]);
        assert!(
            stdout(&listed).starts_with("0 bytes in all"),
            "{}",
            stdout(&listed)
        );
    }
    let pulled = cli.run(&pull);
    assert_eq!(pulled.status.code(), Some(0), "{}", stderr(&pulled));
    assert_eq!(
        stdout(&pulled).trim(),
        sources::Digest::of(&module).to_string()
    );
}

/// Eight processes fill one store that has space for four modules. Each process gets its complete
/// module.
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_store_that_is_smaller_than_their_modules() {
    let cli = Cli::new();
    let registry = Registry::start();
    let module = std::fs::read(guest("noop-command")).unwrap();
    let mut digests = Vec::new();
    for number in 0..8u8 {
        // A custom section makes each module different.
        let other = [module.as_slice(), &[0, 3, 1, b'n', number]].concat();
        registry.push_module(&format!("m{number}:1"), &other).await;
        digests.push(sources::Digest::of(&other).to_string());
    }
    let largest = module.len() + 5;
    let config = format!(
        "sources: {{maxModuleSize: {largest}, maxStoreSize: {}}}",
        largest * 4
    );
    std::fs::write(cli.at("c.yaml"), config).unwrap();
    for _ in 0..3 {
        let children = (0..8).map(|number| {
            let reference = format!("oci://{}/m{number}:1", registry.host);
            let arguments = [
                "pull",
                "--config",
                "c.yaml",
                "--insecure-registry",
                &registry.host,
                &reference,
            ];
            cli.command(&arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        for (child, digest) in children.collect::<Vec<_>>().into_iter().zip(&digests) {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert_eq!(stdout(&output).trim(), digest);
        }
    }
    let listed = cli.run(&["cache", "list", "--json"]);
    let bytes = serde_json::from_str::<serde_json::Value>(stdout(&listed)).unwrap()["bytes"]
        .as_u64()
        .unwrap();
    assert!(
        bytes > 0 && bytes <= largest as u64 * 4,
        "{bytes} of {}",
        largest * 4
    );
}
