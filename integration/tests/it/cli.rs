//! The command line.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, program, template};
use wasm_workflow_integration::guests::{guest, padding, repository};
use wasm_workflow_integration::registry::Registry;

pub(crate) struct Cli {
    directory: tempfile::TempDir,
}

impl Cli {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// In the directory, which is the home of whoever runs it, and where programs are looked for first.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .current_dir(self.directory.path())
            .args(arguments)
            .env("WASM_WORKFLOW_CACHE_DIR", self.at("cache"));
        let path = format!(
            "{}:{}",
            self.directory.path().display(),
            std::env::var("PATH").unwrap()
        );
        command
            .env("HOME", self.directory.path())
            .env("PATH", path)
            .env_remove("DOCKER_CONFIG");
        command.env("WASM_WORKFLOW_SCRATCH_DIR", self.at("scratch"));
        command
    }
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// From a file, from a registry, and through the agent's call: the same output.
#[tokio::test]
async fn ferris_says_the_same_everywhere() {
    let (cli, registry) = (Cli::new(), Registry::start());
    let ferris = guest("ferris-says");
    registry
        .push_module(
            "examples/ferris-says:latest",
            &std::fs::read(&ferris).unwrap(),
        )
        .await;
    let from_file = cli.run(&["run", text(&ferris), "-p", "text=Hello"]);
    assert_eq!(from_file.status.code(), Some(0), "{}", stderr(&from_file));
    assert!(stdout(&from_file).contains("< Hello >"));
    let reference = format!("oci://{}/examples/ferris-says:latest", registry.host);
    let from_registry = cli.run(&[
        "run",
        &reference,
        "-p",
        "text=Hello",
        "--insecure-registry",
        &registry.host,
    ]);
    assert_eq!(
        stdout(&from_registry),
        stdout(&from_file),
        "{}",
        stderr(&from_registry)
    );
    let json_output = cli.run(&["run", text(&ferris), "-p", "text=Hello", "--json"]);
    let printed: Value = serde_json::from_str(stdout(&json_output)).unwrap();
    let mut served = template("ferris-says");
    served["inputs"] = json!({"parameters": [{"name": "text", "value": "Hello"}]});
    assert_eq!(Executor::start().node(&served).await, printed);
    assert_eq!(
        printed["outputs"]["result"].as_str().unwrap(),
        stdout(&from_file).trim_end_matches('\n')
    );
}

#[test]
fn artifacts_come_and_go_as_plain_files() {
    let cli = Cli::new();
    std::fs::write(cli.at("text"), "one two three").unwrap();
    let output = cli.run(&[
        "run",
        text(&guest("word-count")),
        "-a",
        "text=text:/in/t",
        "-o",
        "copy=/out/c",
        "--output-dir",
        "made",
        "--",
        "/in/t",
        "/out/c",
    ]);
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "3\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        std::fs::read_to_string(cli.at("made/copy")).unwrap(),
        "one two three"
    );
    assert!(
        stderr(&output).contains("artifact copy -> made/copy"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_template_out_of_a_workflow_file() {
    let cli = Cli::new();
    std::fs::write(cli.at("t"), "a b").unwrap();
    let module = format!("file://{}", guest("word-count").display());
    let workflow = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {{generateName: count-}}\nspec:\n  entrypoint: count\n  templates:\n  - name: count\n    \
         inputs:\n      parameters: [{{name: to, value: /out/x}}]\n      artifacts: [{{name: text, path: /in/t}}]\n    outputs:\n      parameters: [{{name: words, valueFrom: {{path: /out/n}}}}]\n      \
         artifacts: [{{name: copy, path: '{{{{inputs.parameters.to}}}}', archive: {{none: {{}}}}}}]\n    plugin: {{wasm: {{module: '{module}', args: ['{{{{inputs.artifacts.text.path}}}}', '{{{{inputs.parameters.to}}}}', /out/n]}}}}\n"
    );
    std::fs::write(cli.at("wf.yaml"), workflow).unwrap();
    let output = cli.run(&[
        "run",
        "--template",
        "wf.yaml#count",
        "-a",
        "text=t",
        "-p",
        "to=/out/y",
    ]);
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "2\n"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("parameter words = 2"),
        "{}",
        stderr(&output)
    );
    assert_eq!(std::fs::read_to_string(cli.at("copy")).unwrap(), "a b");
}

#[test]
fn exit_codes_tell_failed_error_and_usage_apart() {
    let cli = Cli::new();
    let (trap, counting) = (guest("trap"), guest("word-count"));
    let failing = guest("malformed-result");
    std::fs::write(cli.at("file"), "").unwrap();
    let cases: [(&[&str], i32, &str); 29] = [
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
        (&["run", "ftp://x/y"], 64, "is none of `oci://`"),
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
        (&["run", "ghcr.io/Acme/x:1"], 64, "in lower case"),
        (
            &["run", text(&trap), "-p", "a=1", "-p", "a=2"],
            64,
            "-p a=… is there twice",
        ),
        (
            &["run", text(&trap), "-a", "x=y:in/x"],
            64,
            "must begin with `/`",
        ),
        (&["run", "--template", text(&trap)], 64, "is no YAML file"),
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
            "-a x=… is there twice",
        ),
        (
            &["run", text(&trap), "-o", "x=/in/x", "-o", "x=/in/y"],
            64,
            "-o x=… is there twice",
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
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(expected),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
    assert_eq!(cli.run(&["--help"]).status.code(), Some(0));
}

#[test]
fn limits_and_standard_input() {
    let cli = Cli::new();
    let output = cli.run(&["run", text(&guest("spin")), "--limit-time", "300ms"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("time limit of 300ms exceeded"),
        "{}",
        stderr(&output)
    );
    let output = cli.run(&["run", text(&guest("memory-hog")), "--limit-memory", "16Mi"]);
    assert!(
        stderr(&output).contains("memory limit of 16Mi exceeded"),
        "{}",
        stderr(&output)
    );
    std::fs::write(cli.at("stdin"), "typed").unwrap();
    let output = cli.run(&[
        "run",
        text(&guest("show")),
        "--stdin",
        "stdin",
        "--env",
        "A=b",
    ]);
    assert!(
        stdout(&output).contains("stdin typed") && stdout(&output).contains("env A=b"),
        "{}",
        stdout(&output)
    );
}

#[tokio::test]
async fn pull_and_inspect() {
    let (cli, registry) = (Cli::new(), Registry::start());
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

/// The store has a bound, and what a person removes is downloaded again.
#[tokio::test]
async fn the_cache_is_listed_bounded_and_pruned() {
    let (cli, registry) = (Cli::new(), Registry::start());
    std::fs::write(
        cli.at("c.yaml"),
        "sources: {maxModule: 100Ki, maxStore: 400Ki}",
    )
    .unwrap();
    let with = |arguments: &[&str]| {
        let output = cli.run(
            &[
                arguments,
                &["--config", "c.yaml", "--insecure-registry", &registry.host],
            ]
            .concat(),
        );
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

/// What was exported where there is a registry runs where there is none.
#[tokio::test]
async fn modules_are_carried_to_a_machine_with_no_way_out() {
    let (here, there, registry) = (Cli::new(), Cli::new(), Registry::start());
    registry
        .push_module("g:1", &std::fs::read(guest("greeting")).unwrap())
        .await;
    let reference = format!("oci://{}/g:1", registry.host);
    let file = here.at("modules.tar");
    let exported = here.run(&[
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
    let imported = there.run(&["cache", "import", text(&file)]);
    assert!(
        stdout(&imported).starts_with(&format!("{reference}  sha256:")),
        "{}",
        stderr(&imported)
    );
    let ran = there.run(&["run", &reference, "-p", "name=Ada"]);
    assert!(stderr(&ran).contains("Hello, Ada!"), "{}", stderr(&ran));
    let nothing = there.run(&["cache", "import", "/dev/null/none"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(
        stderr(&nothing).contains("cannot be imported"),
        "{}",
        stderr(&nothing)
    );
    let files = here.run(&["cache", "export", text(&guest("greeting")), "-o", "x.tar"]);
    assert!(
        stderr(&files).contains("is on this machine already"),
        "{}",
        stderr(&files)
    );
}

#[test]
fn config_check_prints_what_is_in_force() {
    let cli = Cli::new();
    std::fs::write(
        cli.at("c.yaml"),
        "limits: {memory: 1Gi}\nsources: {insecure: [a]}\n",
    )
    .unwrap();
    let output = cli.run(&[
        "config",
        "check",
        "--config",
        "c.yaml",
        "--insecure-registry",
        "b:1",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = stdout(&output);
    assert!(
        printed.contains("memory: 1Gi") && printed.contains("b:1") && !printed.contains("- a"),
        "{printed}"
    );
    std::fs::write(cli.at("c.yaml"), "limit: {}").unwrap();
    let output = cli.run(&["config", "check", "--config", "c.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("unknown key `limit`; did you mean `limits`?"),
        "{}",
        stderr(&output)
    );
}

/// What `serve` would refuse later is an error here.
#[test]
fn config_check_finds_what_would_not_start() {
    let cli = Cli::new();
    for (document, code, expected) in [
        (
            "sources: {credentials: [{host: h}]}",
            64,
            "needs `username` and `passwordFrom`, or `tokenFrom` alone",
        ),
        (
            "sources: {credentials: [{host: h, username: u, passwordFrom: {env: UNSET_HERE}}]}",
            64,
            "the configuration in `c.yaml`: `sources.credentials[0]`: `UNSET_HERE`: there is no such environment variable",
        ),
        (
            "sources: {credentials: [{host: h, tokenFrom: {file: /none}}]}",
            64,
            "`/none`",
        ),
        (
            "sources: {policy: {signatures: [{references: ['*'], keyless: {issuer: i, subject: s}}]}}",
            64,
            "this program was built without keyless signatures",
        ),
        (
            "sources: {policy: {signatures: [{references: ['*'], keys: [/etc/key.pub]}]}}",
            64,
            "the key is not a public key in PEM",
        ),
        (
            "sources: {policy: {signatures: [{references: ['ghcr.io/*'], keys: [x]}]}}",
            64,
            "matches no reference",
        ),
        ("sources: {ca: [/etc/ca.pem]}", 64, "and not a path"),
        (
            "sources: {ca: ['-----BEGIN CERTIFICATE----- no']}",
            64,
            "certificate",
        ),
        (
            "sources: {files: /none/here}",
            64,
            "there is no directory `/none/here`",
        ),
        ("limits: {entries: 0}", 64, "must be at least 16"),
        ("sources: {maxModule: 0}", 64, "must be at least 1Ki"),
        (
            "limits: {steps: many}",
            64,
            "expected a whole number from 0 to 4294967295, found `many`",
        ),
        (
            "limits: {steps: -1}",
            64,
            "expected a whole number from 0 to 4294967295, found integer `-1`",
        ),
        ("sources: {files: modules}", 64, "must be an absolute path"),
        ("limits: {memory: 100Gi}", 64, "must be at most 4Gi"),
        (
            "telemetry: {log: {level: loud}}",
            64,
            "`loud` is not a log level",
        ),
        ("limits: {time: 1s}\nlimits: {time: 2s}", 64, "line 2"),
        (
            "sources: {credentials: [{host: h, passwordFrom: hunter2}]}",
            64,
            "expected a map, found a text",
        ),
        ("telemetry: {log: {level: ''}}", 64, "is not a log level"),
        (
            "sources: {maxStore: 1Gi, maxModule: 1Gi}",
            64,
            "at least four times",
        ),
    ] {
        std::fs::write(cli.at("c.yaml"), document).unwrap();
        let output = cli.run(&["config", "check", "--config", "c.yaml"]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{document}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(expected),
            "{document}: {}",
            stderr(&output)
        );
    }
}

/// Steps that need no directory run without one: that is a warning, and no reason not to start.
#[test]
fn config_check_warns_of_a_scratch_directory_that_cannot_be_written() {
    let output = Cli::new().run(&[
        "config",
        "check",
        "--scratch-dir",
        "/proc/none",
        "--cache-dir",
        "/proc/none",
    ]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("modules cannot be fetched"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("steps that use files cannot run"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn config_check_warns_of_what_will_not_do() {
    let cli = Cli::new();
    let config = "limits: {memory: 1Gi, stepsMemory: 64Mi}\nartifacts: {repository: {s3: {endpoint: h, bucket: b}}}\n";
    let run = |key: &str| {
        let mut command = cli.command(&["config", "check"]);
        command
            .env("WASM_WORKFLOW_CONFIG", config)
            .env_remove("AWS_ACCESS_KEY_ID");
        if !key.is_empty() {
            command.env("AWS_ACCESS_KEY_ID", key);
        }
        stderr(&command.output().unwrap()).to_owned()
    };
    let said = run("");
    assert!(
        said.contains("a step gets at most `limits.stepsMemory`"),
        "{said}"
    );
    assert!(
        said.contains("the artifact repository names no keys, and the environment has none"),
        "{said}"
    );
    assert!(!run("key").contains("names no keys"));
}

#[test]
fn values_of_the_environment_are_named_by_their_variables() {
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

/// What a template may say is the same as for a server.
#[test]
fn a_template_is_held_to_what_argo_would_run() {
    let cli = Cli::new();
    let module = guest("word-count");
    for (outputs, expected) in [
        (
            "{name: a, path: /out/a, archive: {tar: {compressionLevel: 12}}}",
            "must be a level of gzip",
        ),
        (
            "{name: a, path: /out/a, archive: {zipp: {}}}",
            "did you mean `zip`?",
        ),
        (
            "{name: a, path: /out/a, s3: {buckt: b, key: k}}",
            "did you mean `bucket`?",
        ),
        (
            "{name: a, path: /out/a, raw: {data: x}}",
            "an output cannot be `raw`",
        ),
        (
            "{name: a, path: /out/a, gcs: {key: k}}",
            "`gcs` are not supported; use `s3` with the endpoint storage.googleapis.com",
        ),
    ] {
        let template = format!(
            "name: t\noutputs: {{artifacts: [{outputs}]}}\nplugin: {{wasm: {{module: 'a/b:1'}}}}\n"
        );
        std::fs::write(cli.at("t.yaml"), template).unwrap();
        let output = cli.run(&["run", "--template", "t.yaml", text(&module)]);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{outputs}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(expected),
            "{outputs}: {}",
            stderr(&output)
        );
    }
    let template = "name: t\nplugin: {other: 1, wasm: {module: 'a/b:1'}}\n";
    std::fs::write(cli.at("t.yaml"), template).unwrap();
    assert!(
        stderr(&cli.run(&["run", "--template", "t.yaml"]))
            .contains("unknown key `other` beside `wasm`")
    );
    for (own, expected) in [
        ("module: {oci: 'a/b:1', wkg: 'a:b'}", "exactly one of"),
        ("module: {oci: 'a/b@sha256:1'}", "sha256:1"),
        ("args: []", "the key `module` is missing"),
    ] {
        std::fs::write(
            cli.at("t.yaml"),
            format!("name: t\nplugin: {{wasm: {{{own}}}}}\n"),
        )
        .unwrap();
        let output = cli.run(&["run", "--template", "t.yaml", text(&module)]);
        assert_eq!(output.status.code(), Some(64), "{own}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(expected),
            "{own}: {}",
            stderr(&output)
        );
    }
}

/// The modules that the repository carries behave as those built from its sources.
#[test]
fn committed_modules_are_what_their_sources_say() {
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
            // The digest in the message is the only difference: compilers differ.
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

/// The README's commands, and what it shows of them.
#[test]
fn the_readme_shows_what_is_printed() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks: Vec<&str> = readme
        .split("```console\n$ cargo run --quiet -- run ")
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
        let (command, shown) = (block[..end].replace("\\\n    ", ""), &block[end + 1..]);
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

/// Both manifests of the plugin, which differ in one line.
#[test]
fn the_manifests_differ_in_their_access_alone() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let (without, with) = (
        read("plugin/plugin.yaml"),
        read("plugin/with-api-access/plugin.yaml"),
    );
    let plain = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        plain(&without).replace(
            "automountServiceAccountToken: false",
            "automountServiceAccountToken: true"
        ),
        plain(&with)
    );
}
