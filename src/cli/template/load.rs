//! Finds a template in a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::parameters::{set_parameters, unread};
use super::variables::{substitute, variables};
use crate::cli::Failure;
use crate::step::Workflow;
use crate::text::{nearest, yaml};

/// A template with values in place of its variables, and the workflow that it is from.
#[derive(Debug)]
pub(in crate::cli) struct LoadedTemplate {
    pub(in crate::cli) template: Value,
    pub(in crate::cli) workflow: Workflow,
    /// Names of the user's parameters that nothing in the template refers to.
    pub(in crate::cli) unread: Vec<String>,
}

/// A template of this plugin in a file.
struct Candidate<'a> {
    /// The YAML document with the template.
    document: &'a Value,
    /// The `spec` of the workflow in the document, if the document has one.
    spec: Option<&'a Value>,
    template: &'a Value,
}

/// Loads the template `name` of a file. Without a name, the file must have exactly one template for
/// this plugin.
///
/// The file has a Workflow, a `WorkflowTemplate`, a `CronWorkflow`, a list of templates, or one
/// template.
pub(in crate::cli) fn load(
    file: &Path,
    name: Option<&str>,
    parameters: &BTreeMap<String, String>,
) -> Result<LoadedTemplate, Failure> {
    let documents = read(file)?;
    let candidates: Vec<Candidate<'_>> = documents.iter().flat_map(candidates).collect();
    if candidates.is_empty() {
        return Err(no_template(file, &documents));
    }
    let chosen = choose(file, &candidates, name)?;
    let workflow = workflow(chosen.document);
    let mut template = chosen.template.clone();
    let mut arguments = chosen
        .spec
        .and_then(|spec| spec.pointer("/arguments/parameters"))
        .filter(|list| list.is_array())
        .cloned()
        .unwrap_or_else(|| Value::Array(Vec::new()));
    let unread = unread(&template, parameters);
    set_parameters(&mut template, &mut arguments, parameters)?;
    // The values of input parameters come first. They can contain the workflow's parameters, and
    // the rest of the template can contain both.
    if let Some(inputs) = template.pointer_mut("/inputs/parameters") {
        substitute(inputs, &variables(&Value::Null, &arguments, &workflow))?;
    }
    let variables = variables(&template, &arguments, &workflow);
    substitute(&mut template, &variables)?;
    Ok(LoadedTemplate {
        template,
        workflow,
        unread,
    })
}

pub(super) fn read(file: &Path) -> Result<Vec<Value>, Failure> {
    let shown = file.display();
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::usage(format!("`{shown}` cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::usage(format!("`{shown}` is not a YAML file"))
            .with_hint("to run a module, use `run MODULE` without --template")
    })?;
    yaml::documents(&text).map_err(|error| {
        let failure = Failure::usage(format!("`{shown}` is not YAML: {error}"));
        match has_unquoted_tag(&text) {
            true => failure
                .with_hint("put quotes around a value that begins with `{{`: '{{workflow.name}}'"),
            false => failure,
        }
    })
}

/// Whether a value of a YAML text begins with `{{` and has no quotes. For YAML, such a value is a
/// map.
fn has_unquoted_tag(text: &str) -> bool {
    text.lines().any(|line| {
        line.match_indices("{{").any(|(at, _)| {
            let before = line[..at].trim_end();
            before.is_empty() || before.ends_with([':', '-', '[', ','])
        })
    })
}

/// The templates of this plugin in a YAML document.
fn candidates(document: &Value) -> impl Iterator<Item = Candidate<'_>> {
    let spec = spec(document);
    templates(document)
        .iter()
        .filter(|template| template.pointer("/plugin/wasm").is_some())
        .map(move |template| Candidate {
            document,
            spec,
            template,
        })
}

/// The `spec` of the workflow in a document. A `CronWorkflow` contains the `spec` of its Workflow.
pub(super) fn spec(document: &Value) -> Option<&Value> {
    document
        .pointer("/spec/workflowSpec")
        .or_else(|| document.get("spec"))
}

/// All templates in a document. A document without a workflow is a list of templates, or one
/// template.
pub(super) fn templates(document: &Value) -> &[Value] {
    let templates = spec(document)
        .and_then(|spec| spec.get("templates"))
        .unwrap_or(document);
    templates
        .as_array()
        .map_or(std::slice::from_ref(templates), Vec::as_slice)
}

/// The error for a file without a template of this plugin. It names a key of `plugin` that may be a
/// misspelt `wasm`.
fn no_template(file: &Path, documents: &[Value]) -> Failure {
    let misspelt = documents
        .iter()
        .flat_map(templates)
        .filter_map(|template| template.get("plugin")?.as_object())
        .flat_map(serde_json::Map::keys)
        .find(|key| nearest(key, &["wasm"]).is_some());
    let failure = Failure::usage(format!(
        "`{}` has no template with `plugin.wasm`",
        file.display()
    ));
    match misspelt {
        Some(key) => failure.with_hint(format!(
            "the file has `plugin.{key}`; did you mean `plugin.wasm`?"
        )),
        None => failure,
    }
}

fn choose<'a, 'b>(
    file: &Path,
    candidates: &'a [Candidate<'b>],
    name: Option<&str>,
) -> Result<&'a Candidate<'b>, Failure> {
    let file = file.display();
    let names = candidates
        .iter()
        .filter_map(|candidate| candidate.template["name"].as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let message = match (candidates, name) {
        ([only], None) => return Ok(only),
        (_, None) => {
            format!(
                "`{file}` has several templates with `plugin.wasm`; \
                 choose one with {file}#NAME: {names}"
            )
        }
        (_, Some(name)) => {
            let named = candidates
                .iter()
                .find(|candidate| candidate.template["name"] == name);
            match named {
                Some(candidate) => return Ok(candidate),
                None => {
                    format!("`{file}` has no template `{name}` with `plugin.wasm`; it has {names}")
                }
            }
        }
    };
    Err(Failure::usage(message))
}

/// The workflow of a document. A file can omit its names.
pub(super) fn workflow(document: &Value) -> Workflow {
    let metadata = |key: &str| {
        document
            .pointer(&format!("/metadata/{key}"))
            .and_then(Value::as_str)
    };
    Workflow {
        name: metadata("name")
            .or_else(|| metadata("generateName"))
            .unwrap_or("run")
            .trim_end_matches('-')
            .to_owned(),
        namespace: metadata("namespace").unwrap_or("default").to_owned(),
        uid: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WORKFLOW: &str = "
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: hello-}
spec:
  arguments: {parameters: [{name: who, value: world}]}
  templates:
  - name: main
    steps: [[{name: a, template: say}]]
  - name: say
    inputs: {parameters: [{name: text, default: '{{workflow.parameters.who}}'}, {name: n, value: 3}]}
    plugin: {wasm: {module: 'ghcr.io/a/b:1', args: ['{{ inputs.parameters.n }}/{{workflow.name}}', '{{inputs.parameters.text}}']}}
";

    fn load_text(
        text: &str,
        name: Option<&str>,
        parameters: &[(&str, &str)],
    ) -> Result<Value, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        load(file.path(), name, &parameters)
            .map(|loaded| loaded.template)
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn variables_are_replaced_as_the_controller_would() {
        let arguments = |given: &[(&str, &str)]| {
            load_text(WORKFLOW, None, given).unwrap()["plugin"]["wasm"]["args"].clone()
        };
        assert_eq!(arguments(&[("text", "hi")]), json!(["3/hello", "hi"]));
        assert_eq!(
            arguments(&[("who", "you"), ("n", "4")]),
            json!(["4/hello", "you"])
        );
    }

    /// Tags of other programs stay in each part of a template: arguments, environment, standard
    /// input, options, keys, and the content and the paths of artifacts.
    #[test]
    fn braces_that_are_not_argos_stay() {
        let text = "
inputs:
  parameters: [{name: x, value: 'a {{ y }}'}]
  artifacts: [{name: i, path: '/in/{{z}}', raw: {data: '{{#each}}{{inputs.parameters.x}}{{/each}}'}}]
plugin:
  wasm:
    module: 'a/b:1'
    args: ['Dear {{ user.name }}', '{{ open', 'close }}', '{{ {{inputs.parameters.x}} }}']
    env: [{name: A, value: '{{ .Values.a }}'}]
    stdin: '{{> partial}} {{workflow.name}}'
    options: {'{{k}}': {nested: ['{{item1}}']}, '{{workflow.name}}': 1}
";
        let template = load_text(text, None, &[]).unwrap();
        let wasm = &template["plugin"]["wasm"];
        assert_eq!(
            wasm["args"],
            json!([
                "Dear {{ user.name }}",
                "{{ open",
                "close }}",
                "{{ a {{ y }} }}"
            ])
        );
        assert_eq!(wasm["env"][0]["value"], "{{ .Values.a }}");
        assert_eq!(wasm["stdin"], "{{> partial}} run");
        assert_eq!(
            wasm["options"],
            json!({"{{k}}": {"nested": ["{{item1}}"]}, "run": 1})
        );
        let artifact = &template["inputs"]["artifacts"][0];
        assert_eq!(artifact["raw"]["data"], "{{#each}}a {{ y }}{{/each}}");
        assert_eq!(artifact["path"], "/in/{{z}}");
    }

    #[test]
    fn a_template_needs_no_workflow_around_it() {
        let bare =
            "name: t\nplugin: {wasm: {module: 'a/b:1', args: ['{{workflow.parameters.x}}']}}\n";
        assert_eq!(
            load_text(bare, None, &[("x", "1")]).unwrap()["plugin"]["wasm"]["args"],
            json!(["1"])
        );
        let defaulted = "inputs: {parameters: [{name: x, default: '{{workflow.parameters.y}}'}]}\n";
        let bare =
            format!("{defaulted}{bare}").replace("workflow.parameters.x", "inputs.parameters.x");
        assert_eq!(
            load_text(&bare, None, &[("x", "1")]).unwrap()["plugin"]["wasm"]["args"],
            json!(["1"])
        );
        assert!(
            load_text(&bare, None, &[("xy", "1")])
                .unwrap_err()
                .contains("no input parameter `xy`")
        );
        let list = "- name: other\n- name: t\n  plugin: {wasm: {module: 'a/b:1'}}\n";
        assert_eq!(load_text(list, Some("t"), &[]).unwrap()["name"], "t");
    }

    #[test]
    fn errors_name_the_missing_template_or_value() {
        let error = |text: &str, name| load_text(text, name, &[]).unwrap_err();
        assert!(
            error(WORKFLOW, Some("main"))
                .contains("no template `main` with `plugin.wasm`; it has say")
        );
        assert!(
            error(
                &WORKFLOW.replace("inputs.parameters.n }}", "inputs.parameters.m }}"),
                None
            )
            .contains("`{{inputs.parameters.m}}` has no value")
        );
        assert!(error("kind: ConfigMap", None).contains("no template with `plugin.wasm`"));
        assert!(
            error("plugin: {wsm: {module: 'a/b:1'}}", None)
                .contains("the file has `plugin.wsm`; did you mean `plugin.wasm`?")
        );
        let unknown = load_text(WORKFLOW, None, &[("x", "")]).unwrap_err();
        assert!(
            unknown.contains("no input parameter `x`; it has text, n, who"),
            "{unknown}"
        );
        assert!(
            error(
                "plugin: {wasm: {args: ['{{workflow.parameters.q}}']}}",
                None
            )
            .contains("-p q=VALUE")
        );
        for (arg, expected) in [
            ("{{item}}", "the variable `{{item}}` has no value"),
            (
                "{{ {{pod.name}} }}",
                "the variable `{{pod.name}}` has no value",
            ),
            (
                "{{=1 + 1}}",
                "the expression `{{=1 + 1}}` cannot be evaluated here",
            ),
        ] {
            let text = format!("plugin: {{wasm: {{args: ['{arg}']}}}}");
            assert!(error(&text, None).contains(expected), "{arg}");
        }
    }
}
