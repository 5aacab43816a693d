//! The commands under "Installing" in `docs/operating.md`, and `manifest examples`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use wasm_workflow_executor::text::yaml;
use wasm_workflow_integration::executor::program;
use wasm_workflow_integration::guests::repository;
use wasm_workflow_integration::registry::Registry;

use super::documents;
use super::manifests::manifest;
use crate::layouts::tool;

/// A section of `docs/operating.md`, with its subsections.
fn section(title: &str) -> String {
    let text = fs::read_to_string(repository().join("docs/operating.md")).unwrap();
    let section = text.split(&format!("\n## {title}\n")).nth(1).unwrap();
    section.split("\n## ").next().unwrap().to_owned()
}

/// The commands in the `console` blocks of a text, as one shell script.
fn commands(text: &str) -> String {
    let blocks = text.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let lines = lines.map(|line| {
        let line = line.trim_start();
        line.strip_prefix("$ ").unwrap_or(line).to_owned() + "\n"
    });
    lines.collect()
}

/// Runs the commands of the documentation with bash, in this repository. `cargo`, `kubectl` and
/// `argo` are stubs. Each stub writes its arguments to `home/NAME`, and its standard input to
/// `home/NAME.in`.
fn follow(home: &Path, registry: &str, commands: &str) -> Output {
    for stub in ["cargo", "kubectl", "argo"] {
        let file = home.join("bin").join(stub);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let at = home.join(stub).display().to_string();
        let text = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >>{at}\ncase \"$*\" in *-) cat >>{at}.in ;; esac\n"
        );
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let insecure = format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
    fs::write(home.join("registries.conf"), insecure).unwrap();
    let host = "registry.example.com/wasm";
    assert!(commands.contains(host), "{commands}");
    let script = format!(
        "set -euo pipefail\n{}",
        commands.replace(host, &format!("{registry}/wasm"))
    );
    let bin = home.join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let target = program().parent().unwrap().parent().unwrap().to_owned();
    let script = script.replace(
        "$PWD/target/debug",
        program().parent().unwrap().to_str().unwrap(),
    );
    tool(home, "bash")
        .args(["-c", &script])
        .current_dir(repository())
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", target)
        .env("BUILDER", "buildah")
        .env("CONTAINERS_REGISTRIES_CONF", home.join("registries.conf"))
        .env("WASM_WORKFLOW_INSECURE_REGISTRY", registry)
        .env("WASM_WORKFLOW_CACHE_DIR", home.join("cache"))
        .env_remove("DOCKER_CONFIG")
        .output()
        .unwrap()
}

/// Each command runs as it is written. Then the image and the modules are in the registry, the
/// plugin names this image, and the Workflow runs with these modules.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_installation_work() {
    let registry = Registry::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let installing = section("Installing");
    let steps = installing.split("\n### ").next().unwrap();
    let output = follow(home, &registry.host, &commands(steps));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    assert_eq!(
        read("kubectl"),
        "-n argo set env deployment/workflow-controller ARGO_EXECUTOR_PLUGINS=true\napply -f -\n"
    );
    assert_eq!(read("argo"), "submit -n argo --watch -\n");
    assert!(
        read("cargo").starts_with("build --locked\n"),
        "{}",
        read("cargo")
    );

    let objects = yaml::documents(&read("kubectl.in")).unwrap();
    let sidecar = objects.last().unwrap()["data"]["sidecar.container"]
        .as_str()
        .unwrap()
        .to_owned();
    let image = yaml::documents(&sidecar).unwrap()[0]["image"].clone();
    assert_eq!(
        image,
        format!("{}/wasm/wasm-workflow-executor:0.1.0", registry.host)
    );
    let url = format!(
        "http://{}/v2/wasm/wasm-workflow-executor/manifests/0.1.0",
        registry.host
    );
    let answer = wasm_workflow_integration::http()
        .get(url)
        .header("accept", "application/vnd.oci.image.manifest.v1+json")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);

    let workflow = home.join("workflow.yaml");
    fs::write(&workflow, read("argo.in")).unwrap();
    let ran = Command::new(program())
        .args(["run", "--insecure-registry", &registry.host, "--template"])
        .arg(format!("{}#count", workflow.display()))
        .args(["-p", "text=one two three"])
        .env("XDG_CACHE_HOME", home.join("user"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(
        stderr.contains("parameter words = 3") && stderr.contains("Succeeded"),
        "{stderr}"
    );
    // The other modules of the examples are in the registry, too.
    for module in ["ferris-says", "greeting"] {
        let reference = format!("oci://{}/wasm/{module}:0.1.0", registry.host);
        let ran = Command::new(program())
            .args(["run", "--insecure-registry", &registry.host, &reference])
            .args(["-p", "text=Hi", "-p", "name=Ada"])
            .env("XDG_CACHE_HOME", home.join("user"))
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}

/// The command for several namespaces and accounts.
#[test]
fn the_command_for_several_namespaces_works() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let installing = section("Installing");
    let accounts = installing
        .split("\n### Namespaces and accounts\n")
        .nth(1)
        .unwrap();
    let setup = "export REGISTRY=registry.example.com/wasm PATH=\"$PWD/target/debug:$PATH\"\n";
    let script = format!(
        "{setup}{}",
        commands(accounts.split("\n### ").next().unwrap())
    );
    let output = follow(home, "127.0.0.1:1", &script);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let objects = yaml::documents(&fs::read_to_string(home.join("kubectl.in")).unwrap()).unwrap();
    let secret = |namespace: &str, name: &str| {
        let matches = |object: &&Value| {
            object["kind"] == "Secret"
                && object["metadata"]["namespace"] == namespace
                && object["metadata"]["name"] == name
        };
        assert!(
            objects.iter().find(matches).is_some(),
            "{namespace}/{name}: {objects:?}"
        );
    };
    for namespace in ["argo", "team-a"] {
        secret(namespace, "default.service-account-token");
        secret(namespace, "builds.service-account-token");
    }
}

/// `workflowDefaults` adds the same volume as the example Workflow. The volume for later workflows
/// has the same name.
#[test]
fn the_documented_volumes_are_the_volume_of_the_plugin() {
    let patch = &documents("read-only-root/workflow.yaml")[0]["spec"]["podSpecPatch"];
    let installing = section("Installing");
    let block = installing.split("```yaml\n").nth(1).unwrap();
    let map = &yaml::documents(block.split("```").next().unwrap()).unwrap()[0];
    let defaults = yaml::documents(map["data"]["workflowDefaults"].as_str().unwrap()).unwrap();
    assert_eq!(&defaults[0]["spec"]["podSpecPatch"], patch);

    let later = section("Modules of later workflows");
    let block = later.split("```yaml\n").nth(1).unwrap();
    let volumes = &yaml::documents(block.split("```").next().unwrap()).unwrap()[0]["volumes"];
    let plugin = &documents("read-only-root/plugin.yaml")[0];
    let mounts = &plugin["spec"]["sidecar"]["container"]["volumeMounts"];
    assert_eq!(volumes[0]["name"], mounts[0]["name"]);
}

/// The number of steps and the memory in the page are those that `manifest` writes.
#[test]
fn the_sizes_in_the_page_are_those_of_the_manifest() {
    let sizing = section("Sizing");
    let text = manifest(&["--cpu=4", "--memory=16Gi"])
        .unwrap()
        .last()
        .unwrap()["data"]["sidecar.container"]
        .to_string();
    assert!(
        text.contains("{steps: 32}") && text.contains("{memory: 320Mi}"),
        "{text}"
    );
    assert!(sizing.contains("With `--cpu 4 --memory 16Gi` these are 32 steps of 320 MiB each."));
    let text = manifest(&[]).unwrap().last().unwrap()["data"]["sidecar.container"].to_string();
    for default in ["capacity: {steps: 16}", "limits: {memory: 80Mi}"] {
        assert!(
            sizing.contains(default) && text.contains(default),
            "{default}: {text}"
        );
    }
}

/// The output of `manifest examples`, or its error message.
fn examples(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program())
        .args(["manifest", "examples"])
        .args(arguments)
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap()),
        code => {
            assert_eq!(code, Some(64));
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }
}

#[test]
fn examples_name_the_operators_registry() {
    let directory = repository().join("plugin/examples");
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let printed = examples(&["--registry", "r.example.com:5000/team/", name]).unwrap();
        let expected = fs::read_to_string(&path).unwrap().replace(
            "oci://ghcr.io/wasm-workflow-executor/",
            "oci://r.example.com:5000/team/",
        );
        assert_eq!(printed, expected, "{name}");
    }
    // Without names: the examples that need only the modules of this repository.
    let printed = examples(&["--registry", "r.example.com"]).unwrap();
    let printed = yaml::documents(&printed).unwrap();
    assert_eq!(printed.len(), 7);
    for document in printed {
        let text = document.to_string();
        // The Workflow of `template-library` names no module itself.
        let modules = text.matches("oci://").count();
        assert_eq!(
            modules,
            text.matches("oci://r.example.com/").count(),
            "{text}"
        );
        assert!(!text.contains("files.example.com"), "{text}");
    }
}

#[test]
fn examples_refuse_what_is_not_a_registry_or_not_an_example() {
    for registry in [
        "",
        "team",
        "UPPER.example.com/Team",
        "https://r.example.com",
        "r.example.com/a b",
        "r.example.com/x@sha256",
    ] {
        let message = examples(&["--registry", registry]).unwrap_err();
        assert!(
            message.contains("it must be a registry"),
            "{registry}: {message}"
        );
    }
    assert!(examples(&[]).unwrap_err().contains("--registry"));
    let message = examples(&["--registry", "r.example.com", "word-cuont"]).unwrap_err();
    assert!(message.contains("word-count"), "{message}");
}
