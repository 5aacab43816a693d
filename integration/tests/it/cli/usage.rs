//! Exit codes and messages about wrong arguments.

use wasm_workflow_integration::guests::guest;

use super::{Cli, assert_ended, stderr, stdout, text};

#[test]
fn exit_codes_distinguish_failed_error_and_usage() {
    let cli = Cli::new();
    let trap = guest("trap");
    let counting = guest("word-count");
    let failing = guest("malformed-result");
    std::fs::write(cli.at("file"), "").unwrap();
    let cases: [(&[&str], i32, &str); 35] = [
        (
            &["run", text(&trap)],
            1,
            "Failed, exit code 134: the module trapped",
        ),
        (
            &["run", text(&counting)],
            1,
            "Failed: exit code 64: usage: word-count",
        ),
        (&["run", "./none.wasm"], 64, "there is no file"),
        (&["run", "ftp://x/y"], 64, "is not one of `oci://`"),
        (&["run"], 64, "required"),
        (
            &["run", text(&trap), "-p", "novalue"],
            64,
            "it must look like NAME=VALUE",
        ),
        (
            &["run", text(&trap), "-a", "x=none:/in/x"],
            64,
            "there is no",
        ),
        (&["run", "--template", "none.yaml"], 64, "`none.yaml`"),
        (
            &["inspect", "/etc/passwd"],
            2,
            "this is not WebAssembly but text that starts with",
        ),
        (&["frobnicate"], 64, "unrecognized subcommand"),
        (&["run", "no/file"], 64, "there is no file `no/file`"),
        (&["run", "/etc"], 64, "`/etc` is a directory, not a module"),
        (
            &["run", "file:///etc"],
            64,
            "`file:///etc` is a directory, not a module",
        ),
        (
            &["run", "file:///none.wasm"],
            64,
            "there is no file `file:///none.wasm`",
        ),
        (
            &["run", "ghcr.io/acme/x@sha256:123"],
            64,
            "its digest needs 64 hex digits after `sha256:`",
        ),
        (&["run", "https://"], 64, "hint: write it like `https://"),
        (&["run", "oci://"], 64, "it must look like `oci://"),
        (&["run", "ghcr.io/Acme/x:1"], 64, "in lower case"),
        (
            &["run", text(&trap), "-p", "a=1", "-p", "a=2"],
            64,
            "-p a=… is given twice",
        ),
        (
            &["run", text(&trap), "-a", "x=y:in/x"],
            64,
            "must begin with `/`",
        ),
        (
            &["run", "--template", text(&trap)],
            64,
            "is not a YAML file",
        ),
        (
            &["run", text(&trap), "--limit-time", "2h"],
            64,
            "--limit-time 2h is above `limits.time` of the configuration, 1h",
        ),
        (
            &["run", text(&trap), "--log-level", "loud"],
            64,
            "`loud` is not a log level",
        ),
        (
            &["run", text(&trap), "--config", "/dev/null/x"],
            64,
            "cannot be read",
        ),
        (
            &[
                "run",
                text(&failing),
                "--",
                r#"{"message": "resized"}"#,
                "3",
            ],
            1,
            "Failed, exit code 3: resized (module",
        ),
        (
            &[
                "run",
                text(&trap),
                "-a",
                "x=file:/in/x",
                "-a",
                "x=file:/in/y",
            ],
            64,
            "-a x=… is given twice",
        ),
        (
            &["run", text(&trap), "-o", "x=/in/x", "-o", "x=/in/y"],
            64,
            "-o x=… is given twice",
        ),
        (
            &["run", text(&trap), "-a", "x"],
            64,
            "it must look like NAME=HOST_PATH:GUEST_PATH",
        ),
        (
            &["run", text(&trap), "-o", "../x=/out/x"],
            64,
            "`../x` cannot be an artifact's name",
        ),
        (
            &["run", text(&trap), "--output-dir", "file"],
            64,
            "--output-dir: `file` is not a directory",
        ),
        (
            &["run", text(&trap), "--output-dir", "file/x"],
            64,
            "--output-dir: `file` is not a directory",
        ),
        (
            &["run", text(&trap), "--stdin", "none"],
            64,
            "--stdin: `none` cannot be read",
        ),
        (
            &["run", text(&trap), "--insecure-registry", "http://h"],
            64,
            "it must be a host",
        ),
        (
            &["pull", text(&trap), "-o", "none/x"],
            2,
            "--output `none/x` cannot be written",
        ),
        (&["run", "wams:a/b"], 64, "`wams:a/b`"),
    ];
    for (arguments, code, expected) in cases {
        let output = cli.run(arguments);
        assert_ended(&output, code, expected, &arguments);
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
    assert_eq!(cli.run(&["--help"]).status.code(), Some(0));
}

#[test]
fn invalid_environment_values_are_named_by_their_variables() {
    let cli = Cli::new();
    let run = |arguments: &[&str]| {
        cli.command(arguments)
            .env("WASM_WORKFLOW_LOG_FORMAT", "xml")
            .output()
            .unwrap()
    };
    let output = run(&["config", "check"]);
    assert_eq!(output.status.code(), Some(64));
    let hint = "hint: the value is that of the environment variable WASM_WORKFLOW_LOG_FORMAT";
    assert!(stderr(&output).contains(hint), "{}", stderr(&output));
    assert!(!stderr(&run(&["config", "check", "--log-format=yml"])).contains("hint: the value"));
}
