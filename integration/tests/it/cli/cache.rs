//! The commands `pull`, `inspect` and `cache`.

use serde_json::{Value, json};
use wasm_workflow_integration::guests::{guest, padding};
use wasm_workflow_integration::registry::Registry;

use super::{Cli, stderr, stdout, text};

#[tokio::test]
async fn pulled_modules_can_be_inspected_offline() {
    let cli = Cli::new();
    let registry = Registry::start();
    let module = std::fs::read(guest("greeting")).unwrap();
    registry.push_module("greeting:1", &module).await;
    let reference = format!("oci://{}/greeting:1", registry.host);
    let output = cli.run(&[
        "pull",
        &reference,
        "--insecure-registry",
        &registry.host,
        "--output",
        "got.wasm",
    ]);
    assert_eq!(
        stdout(&output).trim(),
        sources::Digest::of(&module).to_string(),
        "{}",
        stderr(&output)
    );
    assert_eq!(std::fs::read(cli.at("got.wasm")).unwrap(), module);
    let pinned = reference.replace(":1", "@sha256:");
    assert!(
        stderr(&output).contains(&format!("{} bytes of {pinned}", module.len())),
        "{}",
        stderr(&output)
    );
    drop(registry);
    let output = cli.run(&[
        "inspect",
        &reference,
        "--insecure-registry",
        "127.0.0.1",
        "--json",
    ]);
    let shown: Value = serde_json::from_str(stdout(&output)).unwrap();
    let artifact = shown["pinned"].as_str().unwrap();
    assert!(
        artifact.starts_with(&reference.replace(":1", "@sha256:"))
            && !artifact.contains(shown["digest"].as_str().unwrap())
    );
    assert_eq!(
        (&shown["kind"], &shown["runs"], &shown["size"]),
        (&json!("component"), &json!("step"), &json!(module.len()))
    );
    assert!(
        shown["imports"]
            .as_array()
            .unwrap()
            .iter()
            .any(|name| name == "wasm-workflow:step/types@0.1.0"),
        "{shown}"
    );
}

/// The store has a size limit. Modules that `cache prune` removed can be downloaded again.
#[tokio::test]
async fn the_cache_is_bounded_listed_and_pruned() {
    let cli = Cli::new();
    let registry = Registry::start();
    std::fs::write(
        cli.at("c.yaml"),
        "sources: {maxModuleSize: 100Ki, maxStoreSize: 400Ki}",
    )
    .unwrap();
    let with = |arguments: &[&str]| {
        let mut command = cli.command(&[arguments, &["--config", "c.yaml"]].concat());
        // A variable, because not each of the commands has the flag.
        let output = command
            .env("WASM_WORKFLOW_INSECURE_REGISTRY", &registry.host)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            stderr(&output)
        );
        output
    };
    let list =
        || serde_json::from_str::<Value>(stdout(&with(&["cache", "list", "--json"]))).unwrap();
    for number in 0..6u8 {
        registry
            .push_module(&format!("m:{number}"), &padding(90 << 10, number))
            .await;
        with(&["pull", &format!("oci://{}/m:{number}", registry.host)]);
    }
    let listed = list();
    let names: Vec<&str> = listed["references"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stored| stored["reference"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (2..6)
        .map(|number| format!("oci://{}/m:{number}", registry.host))
        .collect();
    assert_eq!(
        (names, &listed["bytes"]),
        (
            expected.iter().map(String::as_str).collect(),
            &json!(4 * (90 << 10))
        )
    );
    assert!(
        stderr(&with(&["cache", "prune", "--max-size", "100Ki"]))
            .contains("files removed: 3, 276480 bytes; 92160 bytes are left")
    );
    assert!(stdout(&with(&["cache", "list"])).starts_with(&format!(
        "oci://{}/m:5  92160 bytes  sha256:",
        registry.host
    )));
    with(&["cache", "prune", "--max-size", "0"]);
    assert_eq!(list(), json!({"references": [], "bytes": 0}));
    with(&["pull", &format!("oci://{}/m:0", registry.host)]);
    assert_eq!(list()["bytes"], json!(90 << 10));
}

/// Modules that were exported on one machine run on another machine without a registry.
#[tokio::test]
async fn exported_modules_run_on_an_offline_machine() {
    let online = Cli::new();
    let offline = Cli::new();
    let registry = Registry::start();
    registry
        .push_module("g:1", &std::fs::read(guest("greeting")).unwrap())
        .await;
    let reference = format!("oci://{}/g:1", registry.host);
    let file = online.at("modules.tar");
    let exported = online.run(&[
        "cache",
        "export",
        &reference,
        "-o",
        text(&file),
        "--insecure-registry",
        &registry.host,
    ]);
    assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    drop(registry);
    let imported = offline.run(&["cache", "import", text(&file)]);
    assert!(
        stdout(&imported).starts_with(&format!("{reference}  sha256:")),
        "{}",
        stderr(&imported)
    );
    let ran = offline.run(&["run", &reference, "-p", "name=Ada"]);
    assert!(stderr(&ran).contains("Hello, Ada!"), "{}", stderr(&ran));
    let missing = offline.run(&["cache", "import", "/dev/null/none"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        stderr(&missing).contains("cannot be imported"),
        "{}",
        stderr(&missing)
    );
    let other = offline.run(&["cache", "import", text(&guest("greeting"))]);
    assert!(
        stderr(&other).contains("it is not a file of `cache export`, or it is damaged"),
        "{}",
        stderr(&other)
    );
    let files = online.run(&["cache", "export", text(&guest("greeting")), "-o", "x.tar"]);
    assert!(
        stderr(&files).contains("is on this machine already"),
        "{}",
        stderr(&files)
    );
}
