//! The invariants of `ARCHITECTURE.md`, held against the tree.

use std::fs;
use std::path::{Path, PathBuf};

use wasm_workflow_integration::guests::repository;

use crate::imports::{self, Imports};

/// The floors of `src/`, from the bottom. A folder names only folders of lower floors.
const FLOORS: &[&[&str]] = &[
    &["text"],
    &["step", "kubernetes"],
    &["config"],
    &["runtime", "telemetry"],
    &["staging"],
    &["pipeline"],
    &["argo"],
    &["executions"],
    &["agent", "admin"],
    &["app"],
    &["cli"],
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
    ("sources/src", &["artifacts", "axum", "wasmtime", "kube"]),
    (
        "artifacts/src",
        &["sources", "net", "axum", "wasmtime", "kube"],
    ),
];

/// The crates of the workspace whose files have no cycles.
const CRATES: &[&str] = &["src", "sources/src", "sources/net/src"];

const LONGEST_FILE: usize = 900;
const LONGEST_LINE: usize = 100;

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn all_rust_files() -> Vec<PathBuf> {
    ["src", "sources", "artifacts", "integration", "modules"]
        .iter()
        .flat_map(|name| rust_files(&repository().join(name)))
        .collect()
}

/// Faults of the layout that are known, until they are mended.
const KNOWN: &[&str] = &[
    "`src/config` names `agent`, which is not on a lower floor",
    "`src/config` names `pipeline`, which is not on a lower floor",
    "`src/executions` names `agent`, which is not on a lower floor",
    "src: folders [\"agent\", \"executions\"]",
];

/// Asserts that a test found nothing to complain about.
fn none_of(problems: &[String]) {
    let problems: Vec<&str> = problems
        .iter()
        .map(String::as_str)
        .filter(|problem| !KNOWN.contains(problem))
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn folders_name_only_folders_of_lower_floors() {
    let floor = |folder: &str| FLOORS.iter().position(|names| names.contains(&folder));
    let mut problems = Vec::new();
    for (from, targets) in Imports::of_crate(&repository().join("src")).folder_edges() {
        let from = &from[0];
        let above = floor(from);
        if above.is_none() {
            problems.push(format!("`src/{from}` has no floor in FLOORS"));
        }
        let upward = targets.iter().filter(|to| floor(&to[0]) >= above);
        problems.extend(upward.map(|to| {
            format!(
                "`src/{from}` names `{}`, which is not on a lower floor",
                to[0]
            )
        }));
    }
    none_of(&problems);
}

#[test]
fn no_crate_has_a_cycle_between_folders() {
    let mut problems = Vec::new();
    for folder in CRATES {
        let imports = Imports::of_crate(&repository().join(folder));
        let folders = imports::cycles(&imports.folder_edges());
        problems.extend(
            folders
                .iter()
                .map(|cycle| format!("{folder}: folders {cycle:?}")),
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

/// Other code asks the reference itself (`ReferenceKind`), so that a new kind needs no change there.
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

#[test]
fn unsafe_code_is_in_one_place() {
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let code: String = text.split_whitespace().collect();
        let allows = code.contains(concat!("allow(", "unsafe_code"));
        assert_eq!(
            allows,
            file.ends_with("src/runtime/code.rs"),
            "{}",
            file.display()
        );
    }
}

#[test]
fn files_say_what_they_are_and_are_not_long() {
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} does not begin with what it is",
            file.display()
        );
        let lines = text.lines().count();
        assert!(
            lines <= LONGEST_FILE,
            "{} has {lines} lines",
            file.display()
        );
    }
}

/// No place of the machine it was made on, and nothing that ends in nothing.
#[test]
fn the_tree_is_a_public_project() {
    let root = repository();
    let listed = std::process::Command::new("git")
        .args(["ls-files"])
        .current_dir(&root)
        .output()
        .unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().lines() {
        let Ok(text) = fs::read_to_string(root.join(name)) else {
            continue;
        };
        for word in [
            concat!("/wo", "rk/main"),
            concat!("/ro", "ot/"),
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("\"reso", "lved\":"),
        ] {
            assert!(!text.contains(word), "{name} contains `{word}`");
        }
    }
}

#[test]
fn the_template_schema_is_the_types() {
    let schema = wasm_workflow_executor::argo::schema();
    let expected = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    let file = repository().join("docs/schemas/template.schema.json");
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&file, &expected).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap_or_default(),
        expected,
        "run with UPDATE_SCHEMAS=1"
    );
}

/// The YAML that operators copy is YAML that the program takes.
#[test]
fn the_documented_configuration_is_one() {
    let text = fs::read_to_string(repository().join("docs/operating.md")).unwrap();
    let block = text
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let config =
        wasm_workflow_executor::config::Config::from_text(block, "docs/operating.md").unwrap();
    let defaults = wasm_workflow_executor::config::Config::default();
    assert_eq!(
        config.limits, defaults.limits,
        "the documented defaults are the defaults"
    );
    assert_eq!(config.agent, defaults.agent);
    // The other keys of `capacity` depend on the machine.
    assert_eq!(
        config.capacity.min_free_disk,
        defaults.capacity.min_free_disk
    );
}

/// Messages that people look up are messages that the program says.
#[test]
fn troubleshooting_has_messages_of_the_program() {
    let sources: String = ["src", "sources/src", "sources/net/src", "artifacts/src"]
        .iter()
        .flat_map(|name| rust_files(&repository().join(name)))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let text = fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    let table = text
        .split("## A node says")
        .nth(1)
        .unwrap()
        .split("## Argo says")
        .next()
        .unwrap();
    let messages = table
        .lines()
        .skip(4)
        .filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let mut looked_up = 0;
    for message in messages.flat_map(|message| message.split('`').skip(1).step_by(2)) {
        assert!(sources.contains(message), "nothing says `{message}`");
        looked_up += 1;
    }
    assert!(looked_up > 30, "{looked_up}");
}

/// Every key below `plugin.wasm` is in the page on the template.
#[test]
fn the_template_page_has_every_key() {
    let schema = serde_json::to_value(wasm_workflow_executor::argo::schema()).unwrap();
    let wasm = &schema["$defs"]["Wasm"]["properties"];
    let keys: Vec<&String> = wasm
        .as_object()
        .expect("the keys below `plugin.wasm`")
        .keys()
        .collect();
    let text = fs::read_to_string(repository().join("docs/template.md")).unwrap();
    for key in keys {
        assert!(
            text.contains(&format!("`{key}`"))
                || text.contains(&format!("`{key}."))
                || text.contains(&format!("`{key}[")),
            "`{key}` is not in docs/template.md"
        );
    }
}

#[test]
fn the_manifest_and_the_program_agree() {
    let text = fs::read_to_string(repository().join("plugin/plugin.yaml")).unwrap();
    let manifest = &wasm_workflow_executor::text::yaml::documents(&text).unwrap()[0];
    let container = &manifest["spec"]["sidecar"]["container"];
    assert_eq!(container["ports"][0]["containerPort"], 7884);
    assert_eq!(container["securityContext"]["runAsUser"], 8737);
    for key in ["requests", "limits"] {
        assert!(
            container["resources"][key].is_object(),
            "Argo refuses a manifest without resources.{key}"
        );
    }
    let help = std::process::Command::new(wasm_workflow_integration::executor::program())
        .args(["serve", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.contains("[default: 0.0.0.0:7884]") && help.contains("[default: /var/run/argo/token]"),
        "{help}"
    );
    // Every flag and variable of the operators' table exists.
    let documented = fs::read_to_string(repository().join("docs/operating.md")).unwrap();
    let flags = documented
        .split("## Flags")
        .nth(1)
        .unwrap()
        .split("Precedence")
        .next()
        .unwrap();
    for word in flags.split('`').filter(|word| word.starts_with("--")) {
        assert!(
            help.contains(word.split(' ').next().unwrap()),
            "`{word}` is not a flag"
        );
    }
}
