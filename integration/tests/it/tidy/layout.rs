//! The layout: layers of folders, cycles, forbidden crates, and who names kinds of references.

use std::fs;

use wasm_workflow_integration::guests::repository;

use super::all_rust_files;
use super::imports::{Imports, cycles};

/// The layers of `src/`, from the bottom. A folder names only folders of lower layers.
const LAYERS: &[&[&str]] = &[
    &["text", "listener", "sandbox"],
    &["step", "kubernetes"],
    &["config"],
    &["runtime", "telemetry"],
    &["staging"],
    &["pipeline"],
    &["argo"],
    &["executions"],
    &["http_templates"],
    &["agent", "cluster", "admin"],
    &["app"],
    &["cli", "allocator"],
];

/// Crates that the code of a folder must not name, in a `use` line or anywhere else.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "src/text",
        &["sources", "artifacts", "net", "axum", "kube", "wasmtime"],
    ),
    (
        "src/step",
        &["net", "axum", "http_body", "kube", "wasmtime"],
    ),
    (
        "src/runtime",
        &[
            "sources",
            "artifacts",
            "net",
            "axum",
            "http_body",
            "reqwest",
            "kube",
        ],
    ),
    ("src/staging", &["axum", "http_body", "kube", "wasmtime"]),
    ("src/pipeline", &["axum", "http_body", "kube"]),
    ("src/executions", &["axum", "http_body", "wasmtime"]),
    (
        "src/kubernetes",
        &["sources", "artifacts", "axum", "wasmtime"],
    ),
    (
        "sources/net/src",
        &["sources", "artifacts", "axum", "wasmtime", "kube"],
    ),
    (
        "sources/untrusted-tar/src",
        &["net", "sources", "artifacts", "axum", "wasmtime", "kube"],
    ),
    (
        "sources/go-json/src",
        &["net", "sources", "artifacts", "axum", "wasmtime", "kube"],
    ),
    ("sources/src", &["artifacts", "axum", "wasmtime", "kube"]),
    ("artifacts/src", &["sources", "axum", "wasmtime", "kube"]),
];

/// The crates of the workspace whose files have no cycles.
const CRATES: &[&str] = &[
    "src",
    "sources/src",
    "sources/net/src",
    "sources/untrusted-tar/src",
    "sources/go-json/src",
    "artifacts/src",
    "integration/src",
];

/// Files that need each other. `Reference` is the enum of all kinds of references, and a kind
/// returns a `Reference` that names its exact content.
const MUTUAL: &[&[&str]] = &[&["reference", "reference::kind", "reference::pattern"]];

/// Asserts that a test found no problem.
fn none_of(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn folders_name_only_folders_of_lower_layers() {
    let layer = |folder: &str| LAYERS.iter().position(|names| names.contains(&folder));
    let mut problems = Vec::new();
    for (from, targets) in Imports::of_crate(&repository().join("src")).folder_edges() {
        let from = &from[0];
        let above = layer(from);
        if above.is_none() {
            problems.push(format!("`src/{from}` has no layer in LAYERS"));
        }
        let upward = targets.iter().filter(|to| layer(&to[0]) >= above);
        problems.extend(upward.map(|to| {
            format!(
                "`src/{from}` names `{}`, which is not on a lower layer",
                to[0]
            )
        }));
    }
    none_of(&problems);
}

#[test]
fn no_crate_has_a_cycle_between_folders_or_files() {
    let mut problems = Vec::new();
    for folder in CRATES {
        let imports = Imports::of_crate(&repository().join(folder));
        let folders = cycles(&imports.folder_edges());
        problems.extend(
            folders
                .iter()
                .map(|cycle| format!("{folder}: folders {cycle:?}")),
        );
        let mut files = cycles(&imports.edges());
        files.retain(|cycle| {
            !MUTUAL.contains(&&*cycle.iter().map(String::as_str).collect::<Vec<_>>())
        });
        problems.extend(
            files
                .iter()
                .map(|cycle| format!("{folder}: files {cycle:?}")),
        );
    }
    none_of(&problems);
}

#[test]
fn folders_name_no_forbidden_crate() {
    let mut problems = Vec::new();
    for (folder, forbidden) in FORBIDDEN {
        let root = repository().join(folder);
        assert!(root.is_dir(), "`{folder}` in FORBIDDEN does not exist");
        let imports = Imports::of_crate(&root);
        for (module, named) in imports
            .roots()
            .filter(|(_, named)| forbidden.contains(named))
        {
            problems.push(format!(
                "{folder}: `{}` names the crate `{named}`",
                module.join("::")
            ));
        }
    }
    none_of(&problems);
}

/// Other code asks the reference itself (`ReferenceKind`), so a new kind needs no change there.
#[test]
fn only_the_reference_folder_names_kinds_of_reference() {
    let root = repository();
    let owner = root.join("sources/src/reference");
    let list = fs::read_to_string(root.join("sources/src/reference/mod.rs")).unwrap();
    let list = list.split("\nkinds! {").nth(1).unwrap();
    let list = list.split("\n}").next().unwrap();
    let kinds: Vec<String> = list
        .lines()
        .filter_map(|line| line.trim().strip_suffix("),")?.split_once('('))
        .map(|(variant, _)| format!("{}{variant}(", "Reference::"))
        .collect();
    assert!(kinds.len() > 5, "{kinds:?}");
    for file in all_rust_files() {
        if file.starts_with(&owner) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let named = kinds.iter().find(|kind| text.contains(kind.as_str()));
        assert_eq!(named, None, "{}", file.display());
    }
}
