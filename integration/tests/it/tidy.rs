//! The invariants of `ARCHITECTURE.md`, held against the tree.

use std::fs;
use std::path::{Path, PathBuf};

use wasm_workflow_integration::guests::repository;

/// Which folders of `src/` may name which. Everything may name `document`, `units` and `yaml`, which name nobody.
const EDGES: &[(&str, &[&str])] = &[
    ("api", &["argo", "jobs", "repositories", "step"]),
    ("argo", &["kubernetes", "staging", "step"]),
    (
        "cli",
        &[
            "api",
            "argo",
            "config",
            "credentials",
            "jobs",
            "kubernetes",
            "repositories",
            "runtime",
            "step",
            "surroundings",
            "telemetry",
            "workflows",
        ],
    ),
    ("config", &["jobs", "step"]),
    ("credentials.rs", &["config", "kubernetes"]),
    ("jobs", &[]),
    ("jobs.rs", &[]),
    ("repositories.rs", &["kubernetes", "step"]),
    ("runtime", &[]),
    ("staging", &["runtime", "step"]),
    ("step", &["runtime", "staging"]),
    ("surroundings", &["kubernetes"]),
    ("telemetry.rs", &["config"]),
    ("workflows.rs", &["jobs", "kubernetes"]),
    ("document.rs", &[]),
    ("kubernetes.rs", &[]),
    ("units.rs", &[]),
    ("yaml.rs", &[]),
];
const EVERYBODYS: [&str; 3] = ["document", "units", "yaml"];
const LONGEST_FILE: usize = 900;

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

#[test]
fn folders_name_only_those_they_may() {
    let source = repository().join("src");
    for file in rust_files(&source) {
        let folder = file
            .strip_prefix(&source)
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == folder) else {
            assert!(
                matches!(folder.as_str(), "lib.rs" | "main.rs"),
                "`{folder}` is not in the table of edges"
            );
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for named in code.split("crate::").skip(1).flat_map(names) {
            let fine = named == folder
                || EVERYBODYS.contains(&named.as_str())
                || allowed.contains(&named.as_str());
            assert!(
                fine || named.is_empty(),
                "{} names `{named}`, which `{folder}` may not",
                file.display()
            );
        }
    }
}

/// What follows `crate::`: a name, or several in braces.
fn names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(list) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&list[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        if c == '}' && depth == 0 && start == at + 1 {
            break;
        }
    }
    names
}

#[test]
fn runtime_knows_nothing_of_the_libraries_and_the_libraries_nothing_of_each_other() {
    let forbidden = [
        ("src/runtime", &["sources::", "artifacts::", "axum::"][..]),
        ("src/step", &["axum::"][..]),
        ("sources/src", &["artifacts::", "wasmtime", "axum::"][..]),
        ("artifacts/src", &["sources::", "wasmtime", "axum::"][..]),
    ];
    for (folder, names) in forbidden {
        for file in rust_files(&repository().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let named = names.iter().find(|name| {
                text.lines()
                    .any(|line| line.trim_start().starts_with("use ") && line.contains(**name))
            });
            assert_eq!(named, None, "{}", file.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_one_place() {
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let allows = text.contains(concat!("allow(", "unsafe_code"));
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
    let defaults = wasm_workflow_executor::config::Limits::default();
    // These two are the machine's.
    let (steps, steps_memory) = (config.limits.steps, config.limits.steps_memory);
    let defaults = wasm_workflow_executor::config::Limits {
        steps,
        steps_memory,
        ..defaults
    };
    assert_eq!(
        config.limits, defaults,
        "the documented defaults are the defaults"
    );
}

/// Messages that people look up are messages that the program says.
#[test]
fn troubleshooting_has_messages_of_the_program() {
    let sources: String = ["src", "sources/src", "artifacts/src"]
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
    let manifest = &wasm_workflow_executor::yaml::documents(&text).unwrap()[0];
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
