//! The choice of the program in `plugin/image/build`. `image.rs` tests the image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use wasm_workflow_integration::guests::repository;

/// Writes an executable shell script.
fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the script with stubs for Cargo and for the programs that make the image. Cargo's target
/// directory is `home/target`. Each stub writes its arguments to `home/calls`.
fn build(home: &Path, arguments: &[&str]) -> Output {
    let calls = home.join("calls");
    for stub in ["cargo", "strip", "ldd", "buildah"] {
        let text = format!("echo {stub} \"$@\" >>{}", calls.display());
        let text = match stub {
            // `strip -o OUTPUT PROGRAM`
            "strip" => format!("{text}\ncp \"$3\" \"$2\""),
            "ldd" => format!("{text}\necho /etc/hostname"),
            _ => text,
        };
        script(&home.join("bin").join(stub), &text);
    }
    let path = format!(
        "{}:{}",
        home.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    Command::new(repository().join("plugin/image/build"))
        .args(arguments)
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", home.join("target"))
        .env_remove("BUILDER")
        .output()
        .unwrap()
}

/// The calls of the stubs, one for each line.
fn calls(home: &Path) -> String {
    let calls = fs::read_to_string(home.join("calls")).unwrap_or_default();
    fs::write(home.join("calls"), "").unwrap();
    calls
}

#[test]
fn the_script_uses_the_program_that_was_built() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let program = |folder: &str| {
        home.join("target")
            .join(folder)
            .join("wasm-workflow-executor")
    };
    script(&program("debug"), "");
    let uses = |output: &Output, program: &Path| {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(
            stderr.contains(&format!("the image gets {}", program.display())),
            "{stderr}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "r.example.com/x:1\n"
        );
    };
    // Cargo does nothing for a program that is newer than the sources.
    let output = build(home, &["r.example.com/x:1"]);
    uses(&output, &program("debug"));
    let made = calls(home);
    assert!(made.starts_with("cargo build --locked\n"), "{made}");
    assert!(!made.contains("buildah push"), "{made}");

    script(&program("release"), "");
    let output = build(home, &["--push", "r.example.com/x:1"]);
    uses(&output, &program("release"));
    let made = calls(home);
    assert!(
        made.starts_with("cargo build --locked --release\n"),
        "{made}"
    );
    assert!(made.ends_with("buildah push r.example.com/x:1\n"), "{made}");

    let other = home.join("other");
    script(&other, "");
    let output = build(
        home,
        &["--program", other.to_str().unwrap(), "r.example.com/x:1"],
    );
    uses(&output, &other.canonicalize().unwrap());
    let made = calls(home);
    assert!(!made.contains("cargo"), "{made}");
}

#[test]
fn without_a_program_the_script_says_how_long_the_build_takes() {
    let home = tempfile::tempdir().unwrap();
    let output = build(home.path(), &["r.example.com/x:1"]);
    // The stub for Cargo builds nothing.
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("there is no program yet; a release build takes"),
        "{stderr}"
    );
    assert!(calls(home.path()).starts_with("cargo build --locked --release\n"));
}

#[test]
fn wrong_arguments_of_the_script_print_its_usage() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["Upper/x:1"],
        &["--program"],
        &["--program", "/bin/sh"],
        &["--unknown", "x:1"],
        &["x:1", "y:1"],
    ] {
        let output = build(home.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("plugin/image/build [--program FILE]"),
            "{stderr}"
        );
        assert_eq!(calls(home.path()), "", "{arguments:?}");
    }
}
