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
