//! Documents, schemas and manifests that must follow the code.

use std::fs;

use serde_json::json;
use wasm_workflow_integration::guests::repository;

use super::rust_files;

#[test]
fn the_template_schema_follows_the_types() {
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

/// Operators copy this YAML, so the program must accept it.
#[test]
fn the_documented_defaults_are_the_defaults() {
    let text = fs::read_to_string(repository().join("docs/operating.md")).unwrap();
    let section = text.split("## Configuration\n").nth(1).unwrap();
    let block = section
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
    assert_eq!(config.cluster, defaults.cluster);
    // The other keys of `capacity` depend on the machine.
    assert_eq!(
        config.capacity.min_free_disk,
        defaults.capacity.min_free_disk
    );
}

/// Users look up the text of a message, so each quoted text must exist in the code.
#[test]
fn troubleshooting_quotes_messages_of_the_program() {
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

/// `docs/template.md` has every key below `plugin.wasm`.
#[test]
fn the_template_page_documents_every_key() {
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
fn the_manifest_matches_the_program() {
    let text = fs::read_to_string(repository().join("plugin/plugin.yaml")).unwrap();
    let manifest = &wasm_workflow_executor::text::yaml::documents(&text).unwrap()[0];
    let container = &manifest["spec"]["sidecar"]["container"];
    assert_eq!(container["ports"][0]["containerPort"], 7884);
    let admin = &container["ports"][1];
    assert_eq!(
        (&admin["containerPort"], &admin["name"]),
        (&json!(7885), &json!("admin"))
    );
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(
            container[probe]["httpGet"],
            json!({"path": path, "port": "admin"})
        );
    }
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
        help.contains("[default: 0.0.0.0:7884]")
            && help.contains("[default: port 7885 of the address of --bind]")
            && help.contains("[default: /var/run/argo/token]"),
        "{help}"
    );
    // Every flag and variable of the operators' table exists.
    for (page, end) in [("operating", "Precedence"), ("cluster", "## How long")] {
        let documented = fs::read_to_string(repository().join(format!("docs/{page}.md"))).unwrap();
        let (_, flags) = documented.split_once("## Flags").unwrap();
        let (flags, _) = flags.split_once(end).unwrap();
        for word in flags.split('`').filter(|word| word.starts_with("--")) {
            assert!(
                help.contains(word.split(' ').next().unwrap()),
                "`{word}` of {page}.md is not a flag"
            );
        }
    }
}
