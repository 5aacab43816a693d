//! Rules of `ARCHITECTURE.md` and `CONTRIBUTING.md`, checked against the files of the repository.

mod documents;
mod imports;
mod layout;
mod lexer;

use std::fs;
use std::path::{Path, PathBuf};

use wasm_workflow_integration::guests::repository;

const MOST_LINES: usize = 500;
const MOST_COLUMNS: usize = 100;

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
fn unsafe_code_is_in_three_files() {
    const FILES: [&str; 3] = [
        "src/allocator.rs",
        "src/runtime/code.rs",
        "src/sandbox/descriptors.rs",
    ];
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let code: String = text.split_whitespace().collect();
        let allows = code.contains(concat!("allow(", "unsafe_code"));
        assert_eq!(
            allows,
            FILES.iter().any(|name| file.ends_with(name)),
            "{}",
            file.display()
        );
    }
}

#[test]
fn a_file_begins_with_a_doc_comment_and_has_at_most_500_lines() {
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let file = file.display();
        assert!(
            text.starts_with("//! "),
            "{file} does not begin with `//! `"
        );
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines");
    }
}

/// `rustfmt` wraps code, but not comments. A table may be wider. The help text of a flag may be
/// wider too, because it is one line.
#[test]
fn a_comment_is_wrapped_at_100_columns() {
    let mut wide = Vec::new();
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let has_help = file.starts_with(repository().join("src/cli"));
        let comments = text.lines().enumerate().filter(|(_, line)| {
            let line = line.trim_start();
            let may_be_wide = line.starts_with("//! |")
                || line.contains("://")
                || (has_help && line.starts_with("///"));
            line.starts_with("//") && !may_be_wide
        });
        wide.extend(
            comments
                .filter(|(_, line)| line.chars().count() > MOST_COLUMNS)
                .map(|(at, _)| format!("{}:{}", file.display(), at + 1)),
        );
    }
    assert!(wide.is_empty(), "\n{}", wide.join("\n"));
}

/// A public repository has no paths of the machine that it was written on, and no notes to self.
#[test]
fn the_repository_has_no_private_paths_or_notes() {
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
