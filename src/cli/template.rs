//! Taking a template out of a Workflow file, and filling in what Argo's controller would.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::Failure;
use crate::step::Workflow;
use crate::text::yaml;

/// The template called `name`, or the only one for this plugin, with its variables replaced.
pub(super) fn load(
    file: &Path,
    name: Option<&str>,
    parameters: &BTreeMap<String, String>,
) -> Result<(Value, Workflow), Failure> {
    let bytes = std::fs::read(file).map_err(|error| {
        Failure::usage(format!(
            "--template: `{}` cannot be read: {error}",
            file.display()
        ))
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::usage(format!(
            "`{}` is no YAML file; a module goes without --template",
            file.display()
        ))
    })?;
    let documents = yaml::documents(&text)
        .map_err(|error| Failure::usage(format!("`{}` is not YAML: {error}", file.display())))?;
    let mut found = Vec::new();
    for document in &documents {
        // A CronWorkflow has its workflow one level down.
        let spec = document
            .pointer("/spec/workflowSpec")
            .or_else(|| document.get("spec"));
        let templates = spec
            .and_then(|spec| spec.get("templates"))
            .unwrap_or(document);
        // Without a workflow around them: a list of templates, or one.
        let templates = templates
            .as_array()
            .map_or(std::slice::from_ref(templates), Vec::as_slice);
        let ours = templates
            .iter()
            .filter(|template| template.pointer("/plugin/wasm").is_some());
        found.extend(ours.map(|template| (document, spec, template)));
    }
    let names = || {
        found
            .iter()
            .filter_map(|(.., template)| template["name"].as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let chosen = match name {
        Some(name) => found.iter().find(|(.., template)| template["name"] == name),
        None if found.len() == 1 => found.first(),
        None => None,
    };
    let Some((document, spec, template)) = chosen else {
        let message = match (found.is_empty(), name) {
            (true, _) => format!("`{}` has no template with `plugin.wasm`", file.display()),
            (false, Some(name)) => format!(
                "`{}` has no wasm template `{name}`; it has {}",
                file.display(),
                names()
            ),
            (false, None) => format!(
                "`{}` has several wasm templates; choose one with {}#NAME: {}",
                file.display(),
                file.display(),
                names()
            ),
        };
        return Err(Failure::usage(message));
    };
    let metadata = |key: &str| {
        document
            .pointer(&format!("/metadata/{key}"))
            .and_then(Value::as_str)
    };
    let workflow = Workflow {
        name: metadata("name")
            .or_else(|| metadata("generateName"))
            .unwrap_or("run")
            .trim_end_matches('-')
            .to_owned(),
        namespace: metadata("namespace").unwrap_or("default").to_owned(),
        uid: String::new(),
    };
    let (mut template, arguments) = (
        (*template).clone(),
        spec.and_then(|spec| spec.pointer("/arguments/parameters")),
    );
    let mut arguments = arguments
        .filter(|list| list.is_array())
        .cloned()
        .unwrap_or_else(|| Value::Array(Vec::new()));
    set_parameters(&mut template, &mut arguments, parameters)?;
    // Input parameters first: they may hold the workflow's, and everything else may hold them.
    if let Some(inputs) = template.pointer_mut("/inputs/parameters") {
        substitute(inputs, &variables(&Value::Null, &arguments, &workflow))?;
    }
    let variables = variables(&template, &arguments, &workflow);
    substitute(&mut template, &variables)?;
    Ok((template, workflow))
}

/// Each is the template's, else the workflow's, whether that declares it or the template only uses it.
fn set_parameters(
    template: &mut Value,
    arguments: &mut Value,
    parameters: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let text = template.to_string();
    let uses: BTreeSet<&str> = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}"))
        .map(|(name, _)| name.trim())
        .collect();
    for (name, value) in parameters {
        let inputs = template.pointer_mut("/inputs/parameters");
        let declared = [inputs, Some(&mut *arguments)]
            .into_iter()
            .flatten()
            .filter_map(Value::as_array_mut);
        let declared = declared
            .flatten()
            .find(|parameter| parameter["name"] == *name);
        match declared {
            // A default is for where there is no value, and may need variables that are not here.
            Some(parameter) => {
                parameter["value"] = value.as_str().into();
                parameter
                    .as_object_mut()
                    .map(|parameter| parameter.remove("default"));
            }
            None if uses.contains(format!("workflow.parameters.{name}").as_str()) => {
                arguments
                    .as_array_mut()
                    .into_iter()
                    .for_each(|list| list.push(json!({"name": name, "value": value})));
            }
            None => {
                let inputs = template.pointer("/inputs/parameters");
                let known = [inputs, Some(&*arguments)]
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_array)
                    .flatten();
                let mut known = known
                    .filter_map(|parameter| parameter["name"].as_str())
                    .collect::<Vec<_>>();
                let mut seen = BTreeSet::new();
                known.retain(|name| seen.insert(*name));
                let known = if known.is_empty() {
                    "has none".to_owned()
                } else {
                    format!("has {}", known.join(", "))
                };
                return Err(Failure::usage(format!(
                    "the template has no input parameter `{name}`; it {known}"
                )));
            }
        }
    }
    Ok(())
}

/// The variables that a template can use outside a cluster.
fn variables(template: &Value, arguments: &Value, workflow: &Workflow) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("workflow.name".to_owned(), workflow.name.clone()),
        ("workflow.namespace".to_owned(), workflow.namespace.clone()),
        ("workflow.uid".to_owned(), workflow.uid.clone()),
        ("node.name".to_owned(), workflow.name.clone()),
        ("retries".to_owned(), "0".to_owned()),
    ]);
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let mut add = |list: Option<&Value>, key: &str, name: &dyn Fn(&str) -> String| {
        for item in list.and_then(Value::as_array).into_iter().flatten() {
            let value = item
                .get(key)
                .or_else(|| item.get("default"))
                .and_then(scalar);
            if let (Some(item_name), Some(value)) = (item["name"].as_str(), value) {
                variables.insert(name(item_name), value);
            }
        }
    };
    add(Some(arguments), "value", &|name| {
        format!("workflow.parameters.{name}")
    });
    add(template.pointer("/inputs/parameters"), "value", &|name| {
        format!("inputs.parameters.{name}")
    });
    add(template.pointer("/inputs/artifacts"), "path", &|name| {
        format!("inputs.artifacts.{name}.path")
    });
    add(template.pointer("/outputs/artifacts"), "path", &|name| {
        format!("outputs.artifacts.{name}.path")
    });
    for output in template
        .pointer("/outputs/parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let (Some(name), Some(path)) = (
            output["name"].as_str(),
            output.pointer("/valueFrom/path").and_then(scalar),
        ) {
            variables.insert(format!("outputs.parameters.{name}.path"), path);
        }
    }
    variables
}

fn substitute(value: &mut Value, variables: &BTreeMap<String, String>) -> Result<(), Failure> {
    match value {
        Value::String(text) if text.contains("{{") => *text = replace(text, variables)?,
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| substitute(item, variables))?,
        Value::Object(map) => map
            .values_mut()
            .try_for_each(|item| substitute(item, variables))?,
        _ => {}
    }
    Ok(())
}

fn replace(text: &str, variables: &BTreeMap<String, String>) -> Result<String, Failure> {
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else {
            break;
        };
        let name = name.trim();
        let value = variables.get(name).ok_or_else(|| {
            let hint =
                match name.strip_prefix("inputs.parameters.").or_else(|| name.strip_prefix("workflow.parameters.")) {
                    Some(parameter) if name.starts_with("inputs.") => {
                        format!("give it one with -p {parameter}=VALUE; the template's `inputs.parameters` must have it")
                    }
                    Some(parameter) => format!("give it one with -p {parameter}=VALUE, or a `default` in the file"),
                    None => "outside a cluster there are only parameters, paths of artifacts, and the names of the workflow and the node"
                        .to_owned(),
                };
            Failure::usage(format!("`{{{{{name}}}}}` has no value here; {hint}"))
        })?;
        replaced.push_str(before);
        replaced.push_str(value);
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

#[cfg(test)]
mod tests {
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
            .map(|(template, _)| template)
            .map_err(|failure| failure.message)
    }

    #[test]
    fn fills_in_what_the_controller_would() {
        let arguments = |given: &[(&str, &str)]| {
            load_text(WORKFLOW, None, given).unwrap()["plugin"]["wasm"]["args"].clone()
        };
        assert_eq!(arguments(&[("text", "hi")]), json!(["3/hello", "hi"]));
        assert_eq!(
            arguments(&[("who", "you"), ("n", "4")]),
            json!(["4/hello", "you"])
        );
    }

    #[test]
    fn takes_templates_without_a_workflow() {
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
    fn says_what_is_missing() {
        let error = |text: &str, name| load_text(text, name, &[]).unwrap_err();
        assert!(error(WORKFLOW, Some("main")).contains("no wasm template `main`; it has say"));
        assert!(
            error(
                &WORKFLOW.replace("inputs.parameters.n }}", "inputs.parameters.m }}"),
                None
            )
            .contains("`{{inputs.parameters.m}}` has no value")
        );
        assert!(error("kind: ConfigMap", None).contains("no template with `plugin.wasm`"));
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
    }
}
