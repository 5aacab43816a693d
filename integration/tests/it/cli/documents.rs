//! The committed modules, the README and the manifests, compared with the program.

use std::path::Path;

use serde_json::{Value, json};
use wasm_workflow_integration::guests::{guest, repository};

use super::{Cli, stderr, stdout, text};

/// The committed modules behave like modules that are built from their sources.
#[test]
fn committed_modules_behave_like_their_sources() {
    let cli = Cli::new();
    let sums = std::fs::read_to_string(repository().join("modules/prebuilt/SHA256SUMS")).unwrap();
    std::fs::write(cli.at("t"), "x y z").unwrap();
    let arguments: [(&str, &[&str]); 3] = [
        ("ferris-says", &["-p", "text=Hello"]),
        ("greeting", &["-p", "name=Ada"]),
        ("word-count", &["-a", "t=t:/in/t", "--", "/in/t", "/tmp/o"]),
    ];
    assert_eq!(sums.lines().count(), arguments.len());
    for (name, arguments) in arguments {
        let committed = repository().join(format!("modules/prebuilt/{name}.wasm"));
        let digest = sources::Digest::of(&std::fs::read(&committed).unwrap());
        assert!(
            sums.contains(&format!("{}  {name}.wasm", digest.hex())),
            "{name} is not the module in SHA256SUMS"
        );
        let run = |module: &Path| {
            let output = cli.run(&[&["run", text(module), "--json"], arguments].concat());
            let mut node: Value = serde_json::from_str(stdout(&output)).unwrap();
            // The digest in the message may differ, because compilers differ.
            let message = node["message"]
                .as_str()
                .unwrap()
                .rsplit_once("module sha256:")
                .unwrap()
                .0
                .to_owned();
            node["message"] = json!(message);
            node
        };
        assert_eq!(run(&committed), run(&guest(name)), "{name}");
    }
}

/// The commands of the README print the output that the README shows.
#[test]
fn the_readme_shows_the_real_output() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks: Vec<&str> = readme
        .split("```console\n$ wasm-workflow-executor run ")
        .skip(1)
        .collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let end = block
            .match_indices('\n')
            .find(|(end, _)| !block[..*end].ends_with('\\'))
            .unwrap()
            .0;
        let command = block[..end].replace("\\\n    ", "");
        let shown = &block[end + 1..];
        let cli = Cli::new();
        std::fs::copy(repository().join("LICENSE.txt"), cli.at("LICENSE.txt")).unwrap();
        let path =
            |word: &str, folder: &str| word.replace(folder, text(&repository().join(folder)));
        let words = command.replace("\"one two three\"", "one_two_three");
        let arguments: Vec<String> = words
            .split(' ')
            .map(|word| {
                path(&path(word, "modules/"), "plugin/").replace("one_two_three", "one two three")
            })
            .collect();
        let output = cli.run(
            &[
                &["run"],
                &*arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            ]
            .concat(),
        );
        let printed = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(printed, shown, "{command}");
    }
}

/// Builds take minutes, and without Cargo's progress they look as if they hang.
#[test]
fn documented_builds_show_their_progress() {
    let mut read = 0;
    for folder in [".", "docs", "integration", "modules", "plugin/image", ".ci"] {
        for entry in std::fs::read_dir(repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            let mut commands = text.lines().filter(|line| {
                ["cargo build", "cargo run", "cargo install"]
                    .iter()
                    .any(|command| line.contains(command))
            });
            let quiet = commands.find(|line| line.contains("--quiet") || line.contains(" -q "));
            assert_eq!(quiet, None, "{}", path.display());
            read += 1;
        }
    }
    assert!(read > 20, "{read}");
}

/// The two manifests of the plugin differ in one line and in comments.
#[test]
fn the_manifests_differ_only_in_api_access() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let without_access = read("plugin/plugin.yaml");
    let with_access = read("plugin/with-api-access/plugin.yaml");
    let without_comments = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        without_comments(&without_access).replace(
            "automountServiceAccountToken: false",
            "automountServiceAccountToken: true"
        ),
        without_comments(&with_access)
    );
}
