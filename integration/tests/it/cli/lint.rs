//! `lint`: the mistakes of templates, without running them.

use std::process::Output;

use wasm_workflow_integration::guests::repository;

use super::{Cli, stderr, stdout};

/// Runs `lint` on a file with this text.
fn lint(text: &str) -> Output {
    let cli = Cli::new();
    std::fs::write(cli.at("workflow.yaml"), text).unwrap();
    cli.run(&["lint", "workflow.yaml"])
}

fn findings(text: &str) -> Vec<String> {
    let output = lint(text);
    stdout(&output)
        .lines()
        .map(|line| line.split_once(": ").unwrap().1.to_owned())
        .collect()
}

#[test]
fn all_mistakes_of_a_file_are_reported_with_their_template() {
    let found = findings(
        "
kind: Workflow
spec:
  arguments: {parameters: [{name: memory, value: lots}]}
  templates:
  - name: main
    steps: [[{name: a, template: say}], [{name: b, template: say, when: '{{steps.a.outputs.exitCode}} == 0'}]]
  - name: say
    inputs: {parameters: [{name: text}]}
    securityContext: {runAsUser: 1}
    plugin:
      wasm:
        module: oci://UPPER CASE
        image: alpine
        args: ['{{inputs.parameters.text}}', '{{inputs.parameters.other}}']
        limits: {memory: '{{workflow.parameters.memory}}', time: '{{inputs.parameters.text}}'}
        env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]
  - name: both
    container: {image: alpine}
    plugin: {wasm: {module: 'ghcr.io/a/b:1'}}
  - name: wrong
    plugin: {wsm: {module: 'ghcr.io/a/b:1'}}
",
    );
    for expected in [
        "template `main`: error: `{{steps.a.outputs.exitCode}}` is not a variable of Argo; write `{{steps.a.exitCode}}`",
        "template `say`: error: `{{inputs.parameters.other}}`: the template has no `other` under `inputs.parameters`",
        "template `say`: error: `template.plugin.wasm`: unknown key `image`",
        "template `say`: error: `template.plugin.wasm.limits.memory`: `lots` is not a number of bytes",
        "template `say`: error: `template.plugin.wasm.module`:",
        "template `say`: error: `template.plugin.wasm.env[0].valueFrom`:",
        "template `say`: warning: Argo ignores these fields for plugin templates: securityContext",
        "template `both`: error: the template has both `container` and `plugin`",
        "template `wrong`: error: the template has `plugin.wsm`; did you mean `plugin.wasm`?",
    ] {
        let count = found
            .iter()
            .filter(|line| line.starts_with(expected))
            .count();
        assert_eq!(count, 1, "{expected}: {found:#?}");
    }
    assert_eq!(found.len(), 9, "{found:#?}");
}

/// Each message names the index that the entry has in the file.
#[test]
fn mistakes_in_the_entries_of_lists_are_all_reported() {
    let found = findings(
        "
name: t
inputs:
  artifacts:
  - {name: a, path: /in/a, mode: 99999, raw: {data: a}}
  - {name: b, raw: {data: b}}
  - {name: c, path: /in/c, raw: {data: c}}
outputs:
  parameters: [{name: p, valueFrom: {jqFilter: x}}]
plugin:
  wasm:
    module: ghcr.io/a/b:1
    args: [[x], fine, {a: b}]
    env: [{name: A, value: x}, wrong, {name: B, value: y}, {nmae: C}]
    pull: {secrets: [regcred]}
    limits: {compile: {memory: 8Mi}}
",
    );
    let expected = [
        "template.plugin.wasm.args[0]",
        "template.plugin.wasm.args[2]",
        "template.plugin.wasm.env[1]",
        "template.plugin.wasm.env[3]",
        "template.plugin.wasm.pull.secrets[0]`: expected a map, found a text (write it like `secrets: [{name: SECRET}]`)",
        "template.plugin.wasm.limits.compile.memory`: must be at least 64Mi, the least that the compiler needs",
        "template.inputs.artifacts.a.mode",
        "template.inputs.artifacts.b`: the key `path` is missing",
        "template.outputs.parameters.p",
    ];
    for expected in expected {
        let expected = format!("template `t`: error: `{expected}");
        assert!(
            found.iter().any(|line| line.starts_with(&expected)),
            "{expected}: {found:#?}"
        );
    }
    // `nmae` is an unknown key, and `name` is missing.
    assert_eq!(found.len(), expected.len() + 1, "{found:#?}");
}

#[test]
fn a_mistake_in_the_plugin_block_is_one_finding() {
    for (plugin, expected) in [
        (
            "{wasm: {module: 'a.io/b:1'}, other: {}}",
            "unknown key `other` beside `wasm`",
        ),
        ("{wasm: 3}", "expected a map"),
        ("{wasm: {args: [x]}}", "the key `module` is missing"),
    ] {
        let found = findings(&format!("name: t\nplugin: {plugin}\n"));
        assert_eq!(found.len(), 1, "{plugin}: {found:#?}");
        assert!(found[0].contains(expected), "{plugin}: {found:#?}");
    }
}

#[test]
fn a_file_without_a_template_for_this_plugin_gets_a_warning() {
    let output = lint("name: t\ncontainer: {image: alpine}\n");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "warning: `workflow.yaml` has no template with `plugin.wasm`; write `plugin: {wasm: …}`\n"
    );
}

#[test]
fn a_module_that_looks_like_a_file_gets_a_warning() {
    for (module, warns) in [
        ("hello.wasm", true),
        ("dist/hello.wasm", true),
        ("ghcr.io/a/hello.wasm", false),
        ("localhost/hello.wasm", false),
        ("file:///hello.wasm", false),
        ("https://h.example/hello.wasm", false),
    ] {
        let found = findings(&format!(
            "name: t\nplugin: {{wasm: {{module: '{module}'}}}}\n"
        ));
        let warned = found
            .iter()
            .any(|line| line.contains("names no registry, so the executor asks Docker Hub"));
        assert_eq!(warned, warns, "{module}: {found:#?}");
    }
}

#[test]
fn a_variable_without_quotes_gets_a_hint() {
    for args in ["[{{workflow.name}}]", "[a, {{workflow.name}}-b]", "{{x.y}}"] {
        let output = lint(&format!(
            "name: t\nplugin: {{wasm: {{module: 'a.io/b:1', args: {args}}}}}\n"
        ));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{message}");
        assert!(message.contains("hint: put quotes around"), "{message}");
    }
    assert!(!stderr(&lint("a: ['{{x}}'\n")).contains("quotes around a value"));
}

#[test]
fn values_that_only_argo_knows_are_not_checked() {
    let text = "
name: t
inputs: {parameters: [{name: module}, {name: memory}]}
plugin:
  wasm:
    module: '{{inputs.parameters.module}}'
    limits: {memory: '{{inputs.parameters.memory}}', time: '{{=asInt(workflow.parameters.t)}}s'}
    args: ['Dear {{ user.name }}']
";
    let output = lint(text);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        stderr(&output),
        "templates for this plugin: 1, errors: 0, warnings: 0\n"
    );
}

#[test]
fn the_exit_code_says_whether_there_are_errors() {
    let module = "plugin: {wasm: {module: 'ghcr.io/a/b:1'}}\n";
    for (text, code) in [
        (format!("name: t\n{module}"), 0),
        (format!("name: t\nvolumes: [{{name: v}}]\n{module}"), 0),
        (format!("name: t\ndaemon: true\n{module}"), 64),
        ("kind: ConfigMap\n".to_owned(), 0),
        ("[".to_owned(), 64),
    ] {
        assert_eq!(lint(&text).status.code(), Some(code), "{text}");
    }
}

#[test]
fn the_examples_have_no_mistakes() {
    let examples = std::fs::read_dir(repository().join("plugin/examples")).unwrap();
    let examples = examples.map(|entry| entry.unwrap().path());
    let examples: Vec<_> = examples
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    let output = Cli::new()
        .command(&["lint"])
        .args(&examples)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let summary = stderr(&output);
    assert!(summary.ends_with("errors: 0, warnings: 0\n"), "{summary}");
}

#[test]
fn inputs_at_one_path_the_name_of_the_log_and_headers_of_the_client_are_mistakes() {
    let found = findings(
        "
name: t
inputs:
  artifacts:
  - {name: a, path: /in/x, raw: {data: a}}
  - {name: b, path: /in//x/, raw: {data: b}}
plugin: {wasm: {module: 'ghcr.io/a/b:1'}}
",
    );
    assert_eq!(
        found,
        [
            "template `t`: error: `template.inputs.artifacts.b.path`: the input artifact `a` has the same path /in/x"
        ]
    );
    let found = findings(
        "
name: t
outputs: {artifacts: [{name: main-logs, path: /out/x}]}
plugin: {wasm: {module: 'ghcr.io/a/b:1'}}
",
    );
    assert!(
        found[0].contains("reserved for the log of the step"),
        "{found:?}"
    );
    let found = findings(
        "
name: t
inputs: {artifacts: [{name: a, path: /in/a, http: {url: 'https://h/a', headers: [{name: Host, value: x}]}}]}
plugin: {wasm: {module: 'ghcr.io/a/b:1'}}
",
    );
    assert!(
        found[0].contains("`http.headers` has the header `host`"),
        "{found:?}"
    );
}
