//! The command `run`.

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, template};
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::hostile::bombs;
use wasm_workflow_integration::registry::Registry;

use super::{Cli, assert_ended, stderr, stdout, text};

/// A module from a file, a module from a registry and a call of the agent have the same output.
#[tokio::test]
async fn a_module_prints_the_same_from_file_registry_and_server() {
    let cli = Cli::new();
    let registry = Registry::start();
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

/// The command prepares the module before it runs the step.
#[test]
fn run_does_not_call_its_own_error_an_error_of_an_earlier_step() {
    let cli = Cli::new();
    let bomb = bombs::of_memory().remove(0);
    std::fs::write(cli.at("bomb.wasm"), &bomb.bytes).unwrap();
    std::fs::write(cli.at("config.yaml"), "limits: {compile: {memory: 64Mi}}").unwrap();
    let output = cli.run(&["run", "--config", "config.yaml", "bomb.wasm"]);
    let printed = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("the compiler reached the memory limit"),
        "{printed}"
    );
    assert!(!printed.contains("earlier step"), "{printed}");
}

#[test]
fn run_reads_and_writes_artifacts_as_plain_files() {
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
fn run_takes_a_template_from_a_workflow_file() {
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
fn run_applies_limits_and_standard_input() {
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

/// `run` accepts and refuses the same templates as `serve`.
#[test]
fn run_validates_templates_like_serve() {
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
        assert_ended(&output, 64, expected, &outputs);
    }
    let template = "name: t\nplugin: {other: 1, wasm: {module: 'a/b:1'}}\n";
    std::fs::write(cli.at("t.yaml"), template).unwrap();
    assert!(
        stderr(&cli.run(&["run", "--template", "t.yaml"]))
            .contains("unknown key `other` beside `wasm`")
    );
    let template = "name: t\ninputs: {parameters: [{name: text}]}\n\
                    plugin: {wasm: {module: 'a/b:1'}}\n";
    std::fs::write(cli.at("t.yaml"), template).unwrap();
    assert!(
        stderr(&cli.run(&["run", "--template", "t.yaml"]))
            .contains("the parameter has no value; supply one with -p text=VALUE")
    );
    for (wasm, expected) in [
        ("module: {oci: 'a/b:1', wkg: 'a:b'}", "exactly one of"),
        ("module: {oci: 'a/b@sha256:1'}", "sha256:1"),
        ("args: []", "the key `module` is missing"),
    ] {
        std::fs::write(
            cli.at("t.yaml"),
            format!("name: t\nplugin: {{wasm: {{{wasm}}}}}\n"),
        )
        .unwrap();
        let output = cli.run(&["run", "--template", "t.yaml", text(&module)]);
        assert_ended(&output, 64, expected, &wasm);
    }
}

#[test]
fn two_inputs_at_one_path_are_an_error() {
    let cli = Cli::new();
    std::fs::write(cli.at("one"), "one").unwrap();
    let output = cli.run(&[
        "run",
        text(&guest("word-count")),
        "-a",
        "a=one:/in/x",
        "-a",
        "b=one:/in/./x",
    ]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the input artifact `a` has the same path /in/x"),
        "{}",
        stderr(&output)
    );
}

/// As for `inspect`, the path of a module may lead up.
#[test]
fn a_module_in_a_parent_directory_runs_with_and_without_a_template() {
    let cli = Cli::new();
    std::fs::copy(guest("ferris-says"), cli.at("hello.wasm")).unwrap();
    std::fs::write(
        cli.at("t.yaml"),
        "name: t\ninputs: {parameters: [{name: text}]}\nplugin: {wasm: {module: 'a.io/b:1'}}\n",
    )
    .unwrap();
    let below = cli.at("below");
    std::fs::create_dir(&below).unwrap();
    for arguments in [
        &["run", "../hello.wasm", "-p", "text=Hello"][..],
        &[
            "run",
            "--template",
            "../t.yaml",
            "../below/../hello.wasm",
            "-p",
            "text=Hello",
        ],
        &["inspect", "../hello.wasm"],
    ] {
        let output = cli.command(arguments).current_dir(&below).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let missing = cli
        .command(&["run", "../none.wasm"])
        .current_dir(&below)
        .output()
        .unwrap();
    assert_ended(&missing, 64, "there is no file `../none.wasm`", &"missing");
}
