//! The mistakes of one template.

use std::path::Path;

use artifacts::Repository;
use serde_json::Value;

use super::finding::Finding;
use super::location::{Location, Removed};
use super::variables;
use crate::argo::repository::DestinationLookup;
use crate::argo::{self, ArtifactContext, Conversion, Template};
use crate::cli::template::FoundTemplate;
use crate::config::{Config, NamespaceRules};
use crate::step::ArtifactDestination;
use crate::text::{DocumentError, nearest};

/// The maximum number of mistakes in keys that are reported for one template.
const MAX_ERRORS: usize = 20;
/// The kinds of templates. A template has exactly one.
const KINDS: [&str; 9] = [
    "container",
    "containerSet",
    "dag",
    "data",
    "http",
    "resource",
    "script",
    "steps",
    "suspend",
];

/// Checks a template as the executor would check it. A value that depends on a variable without a
/// value is not checked. Of templates of other kinds, only the variables are checked.
pub(super) fn check(found: &FoundTemplate) -> Vec<Finding> {
    let mut findings = variables::check(&found.template);
    findings.extend(misspelt_plugin(&found.template));
    if found.is_wasm() {
        findings.extend(second_kind(&found.template));
        findings.extend(file_as_module(&found.template));
        let mut template = found.with_known_values();
        findings.extend(convert(found, &mut template));
    }
    findings
}

/// A key of `plugin` that may be a misspelt `wasm`.
fn misspelt_plugin(template: &Value) -> Option<Finding> {
    let plugin = template.get("plugin")?.as_object()?;
    let key = plugin
        .keys()
        .find(|key| *key != "wasm" && nearest(key, &["wasm"]).is_some())?;
    Some(Finding::error(format!(
        "the template has `plugin.{key}`; did you mean `plugin.wasm`?"
    )))
}

/// A template with `plugin` and another kind is refused by Argo.
fn second_kind(template: &Value) -> Vec<Finding> {
    KINDS
        .iter()
        .filter(|kind| template.get(**kind).is_some_and(|value| !value.is_null()))
        .map(|kind| {
            Finding::error(format!(
                "the template has both `{kind}` and `plugin`; Argo allows only one of them"
            ))
        })
        .collect()
}

/// Converts the template to a step. A value with a mistake is removed, so that the next mistake is
/// found too.
fn convert(found: &FoundTemplate, template: &mut Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut removed = Removed::default();
    for _ in 0..MAX_ERRORS {
        let error = match converted(found, template) {
            Ok(converted) => {
                findings.extend(converted.as_ref().and_then(ignored));
                break;
            }
            Err(error) => error,
        };
        let location = Location::of(&error);
        let depends_on_variable = location
            .value(template)
            .is_some_and(variables::contains_tag);
        if !depends_on_variable {
            findings.push(Finding::error(removed.original(error).to_string()));
        }
        if !location.remove(template, &mut removed) {
            break;
        }
    }
    findings
}

/// `None` if the template is not for this plugin.
fn converted(found: &FoundTemplate, template: &Value) -> Result<Option<Template>, DocumentError> {
    let Some(call) = argo::from_template(found.workflow.clone(), template)? else {
        return Ok(None);
    };
    // The repository of the workflow is known in the cluster only.
    let destination = ArtifactDestination {
        repository: Repository::directory("/"),
        key: String::new(),
        default: true,
        archive_logs: false,
    };
    let conversion = Conversion {
        limits: NamespaceRules::new(&Config::default()).limits("default"),
        artifacts: ArtifactContext {
            destination: DestinationLookup::Known(destination),
            ..ArtifactContext::default()
        },
    };
    let (_, template) = call.into_step(&conversion)?;
    Ok(Some(template))
}

/// A module that has the name of a file, and that the executor would take from Docker Hub.
fn file_as_module(template: &Value) -> Option<Finding> {
    let module = template.pointer("/plugin/wasm/module")?.as_str()?;
    let is_file = Path::new(module)
        .extension()
        .is_some_and(|extension| extension == "wasm");
    let names_registry = module
        .split_once('/')
        .is_some_and(|(host, _)| host.contains('.') || host == "localhost");
    (is_file && !module.contains(':') && !names_registry).then(|| {
        Finding::warning(format!(
            "`module: {module}` names no registry, so the executor asks Docker Hub; a module in a \
             registry is `HOST/REPOSITORY:TAG`, and a file is `file:///ABSOLUTE/PATH`"
        ))
    })
}

fn ignored(template: &Template) -> Option<Finding> {
    let fields = template.ignored_fields();
    (!fields.is_empty()).then(|| {
        Finding::warning(format!(
            "Argo ignores these fields for plugin templates: {}",
            fields.join(", ")
        ))
    })
}
