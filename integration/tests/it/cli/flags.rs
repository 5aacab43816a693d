//! Flags: each flag in the help of a command has an effect there, and values that cannot be meant
//! are refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use wasm_workflow_integration::guests::guest;

use super::{Cli, assert_ended, stderr, stdout, text};

/// The configuration and the log: all commands that read the configuration.
const BASE: &str = "--config --log-level --log-format";
/// Commands that run steps, or check the configuration of `serve`.
const RUNS: &str =
    "--insecure-registry --cache-dir --kubeconfig --code-dir --scratch-dir --artifact-repository";
/// Commands that fetch modules and do not run them.
const FETCHES: &str = "--insecure-registry --cache-dir";

/// The flags that have an effect in each command. A flag of `RUNS` has none where no module is
/// compiled or run: those commands read no Secrets that a template names, and no artifacts.
#[test]
fn help_lists_only_flags_that_have_an_effect() {
    let cli = Cli::new();
    for (command, expected) in [
        (
            "serve",
            format!("{BASE} {RUNS} --bind --admin-bind --token-file --no-token --log-module-output --stand-aside --cluster --replica --pod --namespace --selector --instance-id --http-templates"),
        ),
        (
            "run",
            format!(
                "{BASE} {RUNS} --template --parameter --artifact --output --output-dir --env --stdin --limit-time --limit-memory --json"
            ),
        ),
        ("pull", format!("{BASE} {FETCHES} --output")),
        ("push", format!("{BASE} --insecure-registry --annotation")),
        ("inspect", format!("{BASE} {FETCHES} --json")),
        ("lint", String::new()),
        ("wit", String::new()),
        ("cache list", format!("{BASE} --cache-dir --json")),
        ("cache prune", format!("{BASE} --cache-dir --max-size")),
        ("cache export", format!("{BASE} {FETCHES} --output")),
        ("cache import", format!("{BASE} --cache-dir")),
        ("config check", format!("{BASE} {RUNS}")),
        (
            "manifest",
            "--namespace --image --api-access --secret --read-only-root --config --env --cpu --memory --ephemeral-storage --workflow-account --workflow-namespace --stand-aside".to_owned(),
        ),
        (
            "manifest cluster",
            "--namespace --image --replicas --cpu --memory --ephemeral-storage --controller --controller-account --instance-id --requeue-time --http-templates --tenant --secret --config --env".to_owned(),
        ),
    ] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = cli.run(&arguments);
        let listed: BTreeSet<&str> = stdout(&help)
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix('-'))
            .filter_map(|line| {
                line.split([' ', '=']).find_map(|word| {
                    word.find("--")
                        .map(|at| &word[at..])
                        .or(word.strip_prefix('-').map(|_| word))
                })
            })
            .collect();
        let listed: BTreeSet<String> = listed
            .iter()
            .map(|flag| format!("--{}", flag.trim_start_matches('-').trim_end_matches(',')))
            .collect();
        let mut expected: BTreeSet<String> =
            expected.split_whitespace().map(str::to_owned).collect();
        expected.insert("--help".to_owned());
        assert_eq!(listed, expected, "{command}");
    }
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    let cli = Cli::new();
    let trap = guest("trap");
    let trap = text(&trap);
    fs::write(cli.at("f"), "").unwrap();
    fs::write(
        cli.at("t.yaml"),
        "name: t\ninputs: {artifacts: [{name: in, path: /in/a}]}\noutputs: {artifacts: [{name: out, path: /out/a}]}\nplugin: {wasm: {module: 'a/b:1'}}\n",
    )
    .unwrap();
    fs::create_dir_all(cli.at("dir/out")).unwrap();
    let template = ["run", "--template", "t.yaml", trap];
    let with = |arguments: &[&'static str]| [&template[..], arguments].concat();
    for (arguments, expected) in [
        (
            vec!["run", trap, "--limit-time", "0s"],
            "--limit-time must be more than 0",
        ),
        (
            vec!["run", trap, "--limit-memory", "1Ki"],
            "--limit-memory must be at least 64Ki",
        ),
        (
            vec!["run", trap, "--limit-memory", "0"],
            "--limit-memory must be at least 64Ki",
        ),
        (
            vec!["run", trap, "--env", "A=1", "--env", "A=2"],
            "--env A=… is given twice",
        ),
        (
            vec!["manifest", "--env", "A=s/k", "--env", "A=s/l"],
            "--env A=… is given twice",
        ),
        (
            vec![
                "push",
                trap,
                "oci://r.example/m:1",
                "--annotation",
                "a=1",
                "--annotation",
                "a=2",
            ],
            "--annotation a=… is given twice",
        ),
        (
            with(&["-a", "no=f:/in/x"]),
            "-a no=…: the template has no input artifact `no`; it has in",
        ),
        (
            with(&["-a", "no=f"]),
            "-a no=…: the template has no input artifact `no`; it has in",
        ),
        (
            with(&["-a", "in=f", "-o", "no=/out/x"]),
            "-o no=…: the template has no output artifact `no`; it has out",
        ),
        (
            with(&["-a", "in=f", "--output-dir", "dir"]),
            "the output artifact `out` cannot be written to `dir/out`, which is a directory",
        ),
        (
            vec!["run", trap, "-o", "out=/out/x", "--output-dir", "dir"],
            "the output artifact `out` cannot be written to `dir/out`, which is a directory",
        ),
    ] {
        let output = cli.run(&arguments);
        assert_ended(&output, 64, expected, &arguments);
    }
    assert_eq!(
        fs::read_dir(cli.at("dir")).unwrap().count(),
        1,
        "no file is left"
    );
    for (wasm, expected) in [
        (
            "limits: {memory: 1Ki}",
            "`template.plugin.wasm.limits.memory`: must be at least 64Ki",
        ),
        (
            "limits: {time: 0s}",
            "`template.plugin.wasm.limits.time`: must be more than 0",
        ),
        (
            "limits: {compile: {memory: 63Mi}}",
            "`template.plugin.wasm.limits.compile.memory`: must be at least 64Mi, the least that the \
             compiler needs",
        ),
        (
            "pull: {secrets: [regcred]}",
            "`template.plugin.wasm.pull.secrets[0]`: expected a map, found a text (write it like \
             `secrets: [{name: SECRET}]`)",
        ),
        (
            "pull: {secrets: {name: regcred}}",
            "(write it like `secrets: [{name: SECRET}]`)",
        ),
    ] {
        fs::write(
            cli.at("l.yaml"),
            format!("plugin: {{wasm: {{module: 'a/b:1', {wasm}}}}}\n"),
        )
        .unwrap();
        let output = cli.run(&["run", "--template", "l.yaml", trap]);
        assert!(
            stderr(&output).contains(expected),
            "{wasm}: {}",
            stderr(&output)
        );
    }
}

/// Argo refuses these when the Workflow is submitted (`validateOutputParameter`).
#[test]
fn output_parameters_need_one_source_as_in_argo() {
    let cli = Cli::new();
    let noop = guest("noop-command");
    for (parameter, expected) in [
        ("{name: x}", "Argo demands `value` or `valueFrom`"),
        (
            "{name: x, valueFrom: {}}",
            "Argo demands one source under `valueFrom`",
        ),
        (
            "{name: x, valueFrom: {default: a}}",
            "Argo demands one source under `valueFrom`",
        ),
        (
            "{name: x, valueFrom: {supplied: null}}",
            "Argo demands one source under `valueFrom`",
        ),
        (
            "{name: x, value: a, valueFrom: {supplied: {}}}",
            "Argo allows only one of `value` and `valueFrom`",
        ),
        (
            "{name: x, valueFrom: {path: /out/x, supplied: {}}}",
            "Argo allows only one of `path` and `supplied`",
        ),
    ] {
        let template = format!(
            "outputs: {{parameters: [{parameter}]}}\nplugin: {{wasm: {{module: 'a/b:1'}}}}\n"
        );
        fs::write(cli.at("t.yaml"), template).unwrap();
        let output = cli.run(&["run", "--template", "t.yaml", text(&noop)]);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{parameter}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(expected)
                && stderr(&output).contains("write `valueFrom: {supplied: {}}`"),
            "{parameter}: {}",
            stderr(&output)
        );
    }
    let template = "outputs: {parameters: [{name: x, valueFrom: {supplied: {}, default: d}}, {name: y, value: v}]}\nplugin: {wasm: {module: 'a/b:1'}}\n";
    fs::write(cli.at("t.yaml"), template).unwrap();
    let output = cli.run(&["run", "--template", "t.yaml", text(&noop)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("parameter x = d"),
        "{}",
        stderr(&output)
    );
}

/// `noop-command` does not name the file with the parameters, `ferris-says` reads the file, and
/// `noop-step` gets all parameters.
#[test]
fn run_says_when_a_parameter_does_not_reach_a_command() {
    let cli = Cli::new();
    let run = |arguments: &[&str]| {
        let output = cli.run(&[&["run"], arguments].concat());
        stderr(&output).to_owned()
    };
    let noop = guest("noop-command");
    let noop = text(&noop);
    let shown = run(&[noop, "-p", "who=Ada"]);
    assert!(
        shown.contains("note: the parameter `who` does not reach the module: ")
            && shown.contains(r#"`args: ["{{inputs.parameters.who}}"]`"#),
        "{shown}"
    );
    assert!(!run(&[text(&guest("noop-step")), "-p", "who=Ada"]).contains("note:"));
    assert!(!run(&[text(&guest("ferris-says")), "-p", "text=Hi"]).contains("note:"));
    for (args, is_read) in [("['{{inputs.parameters.who}}']", true), ("[]", false)] {
        let template = format!(
            "inputs: {{parameters: [{{name: who}}]}}\nplugin: {{wasm: {{module: 'a/b:1', args: {args}}}}}\n"
        );
        fs::write(cli.at("t.yaml"), template).unwrap();
        let shown = run(&["--template", "t.yaml", noop, "-p", "who=Ada"]);
        assert_eq!(!shown.contains("note:"), is_read, "{args}: {shown}");
    }
}

/// The input of a bug report, and variables of Argo in the same place.
#[test]
fn braces_of_other_programs_reach_the_module() {
    let cli = Cli::new();
    let show = guest("show");
    let run = |argument: &str| {
        let template = format!(
            "name: t\nplugin:\n  wasm:\n    module: oci://ghcr.io/acme/any:1\n    args: [\"{argument}\"]\n"
        );
        fs::write(cli.at("t.yaml"), template).unwrap();
        cli.run(&["run", "--template", "t.yaml", text(&show)])
    };
    let output = run("Dear {{ user.name }}");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("Dear {{ user.name }}"),
        "{}",
        stdout(&output)
    );
    let output = run("Dear {{inputs.parameters.name}}");
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("the variable `{{inputs.parameters.name}}` has no value"));
}

/// Null in place of a list or a map, as YAML has it for a key without a value.
#[test]
fn null_is_absence_in_a_template() {
    let cli = Cli::new();
    fs::write(cli.at("f"), "a b").unwrap();
    fs::write(
        cli.at("t.yaml"),
        "inputs:\n  parameters:\n  artifacts:\noutputs:\nplugin:\n  wasm:\n    module: 'a/b:1'\n    args:\n    env:\n    stdin:\n    limits:\n    options:\n    pull: {secrets: }\n",
    )
    .unwrap();
    let output = cli.run(&[
        "run",
        "--template",
        "t.yaml",
        text(&guest("show")),
        "--env",
        "A=b",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("env A=b"), "{}", stdout(&output));
}

/// A proxy that answers each request itself, in place of Docker Hub. No request leaves this
/// machine.
fn docker_hub(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let is_hub =
                request.contains(" http://registry-1.docker.io/v2/library/nu/manifests/2 ");
            let status = if is_hub { status } else { "400 Bad Request" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            client.write_all(answer.as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn a_reference_without_a_registry_is_said_to_mean_docker_hub_if_it_is_refused() {
    const HINT: &str =
        "this is docker.io/library/nu: a reference without a registry means Docker Hub";
    let not_found = "has no tag `2` of `library/nu`";
    for (reference, status, error, has_hint) in [
        ("nu:2", "404 Not Found", not_found, true),
        ("library/nu:2", "404 Not Found", not_found, true),
        ("oci://nu:2", "401 Unauthorized", "refuses tag `2`", true),
        ("nu:2", "403 Forbidden", "refuses tag `2`", true),
        ("nu:2", "410 Gone", not_found, true),
        ("docker.io/library/nu:2", "404 Not Found", not_found, false),
        (
            "index.docker.io/library/nu:2",
            "401 Unauthorized",
            "refuses tag `2`",
            false,
        ),
        ("nu:2", "400 Bad Request", "answered 400 Bad Request", false),
        ("nu:2", "429 Too Many Requests", "limits requests", false),
        ("nu:2", "", "cannot be reached", false),
    ] {
        let proxy = match status {
            "" => "http://127.0.0.1:9".to_owned(),
            status => docker_hub(status),
        };
        let cli = Cli::new();
        let mut command = cli.command(&["run", reference]);
        command.args(["--insecure-registry", "registry-1.docker.io"]);
        for name in [
            "ALL_PROXY",
            "NO_PROXY",
            "http_proxy",
            "all_proxy",
            "no_proxy",
        ] {
            command.env_remove(name);
        }
        let output = command.env("HTTP_PROXY", proxy).output().unwrap();
        let shown = stderr(&output);
        assert!(shown.contains(error), "{reference}, {status}: {shown}");
        assert_eq!(
            shown.contains(HINT),
            has_hint,
            "{reference}, {status}: {shown}"
        );
    }
}

/// Prints a traceback on standard error, as Python does, and exits with 1.
const TRACEBACK: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "Traceback (most recent call last):\n  File \22a.py\22, line 1\nValueError: boom\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 74))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 1))))"#;

#[test]
fn run_prints_a_traceback_once() {
    let cli = Cli::new();
    fs::write(cli.at("m.wasm"), wat::parse_str(TRACEBACK).unwrap()).unwrap();
    let output = cli.run(&["run", "m.wasm"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = stderr(&output);
    assert_eq!(shown.matches("Traceback").count(), 1, "{shown}");
    assert!(
        shown.contains("\nFailed: exit code 1: ValueError: boom (module sha256:"),
        "{shown}"
    );
    let output = cli.run(&["run", "m.wasm", "--json"]);
    assert_eq!(stderr(&output), "", "Argo gets the whole message");
    assert!(stdout(&output).contains("Traceback"), "{}", stdout(&output));
}
