//! The mistakes of one template.

use artifacts::Repository;
use serde_json::{Value, json};

use super::finding::Finding;
use super::variables;
use crate::argo::repository::DestinationLookup;
use crate::argo::{self, ArtifactContext, Conversion, Template};
use crate::cli::template::FoundTemplate;
use crate::config::Config;
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

/// Converts the template to a step. A key with a mistake is removed, so that the next mistake is
/// found too.
fn convert(found: &FoundTemplate, template: &mut Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for _ in 0..MAX_ERRORS {
        let error = match converted(found, template) {
            Ok(template) => {
                findings.extend(ignored(&template));
                break;
            }
            Err(error) => error,
        };
        let location = Location::of(&error);
        let depends_on_variable = location
            .value(template)
            .is_some_and(variables::contains_tag);
        if !depends_on_variable {
            findings.push(Finding::error(error.to_string()));
        }
        if !location.remove(template) {
            break;
        }
    }
    findings
}

fn converted(found: &FoundTemplate, template: &Value) -> Result<Template, DocumentError> {
    let call = argo::from_template(found.workflow.clone(), template)?
        .ok_or_else(|| DocumentError::new("template", "the template has no `plugin.wasm`"))?;
    // The repository of the workflow is known in the cluster only.
    let destination = ArtifactDestination {
        repository: Repository::directory("/"),
        key: String::new(),
        default: true,
        archive_logs: false,
    };
    let conversion = Conversion {
        limits: Config::default().step_limits(),
        artifacts: ArtifactContext {
            destination: DestinationLookup::Known(destination),
            ..ArtifactContext::default()
        },
    };
    call.into_step(&conversion).map(|(_, template)| template)
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

/// The location of a mistake in a template.
#[derive(Debug)]
struct Location {
    /// Keys and indexes, from the template to the value.
    segments: Vec<String>,
}

impl Location {
    fn of(error: &DocumentError) -> Self {
        let path = error.path().replace('[', ".").replace(']', "");
        let keys = path.split('.').skip(1).map(str::to_owned);
        let unknown = error.unknown_key().map(str::to_owned);
        Self {
            segments: keys.chain(unknown).collect(),
        }
    }

    fn value<'a>(&self, template: &'a Value) -> Option<&'a Value> {
        self.segments.iter().try_fold(template, child)
    }

    /// Removes the value. A module is replaced, because a template needs one. Returns whether the
    /// template is different now.
    fn remove(&self, template: &mut Value) -> bool {
        let Some((last, parents)) = self.segments.split_last() else {
            return false;
        };
        let parents = parents
            .iter()
            .fold(String::new(), |path, key| path + "/" + key);
        let Some(Value::Object(map)) = template.pointer_mut(&parents) else {
            return false;
        };
        let module = json!("oci://registry.example/module:1");
        match last.as_str() {
            "module" if map.get(last) != Some(&module) => {
                map.insert(last.clone(), module);
                true
            }
            _ => map.remove(last).is_some(),
        }
    }
}

fn child<'a>(value: &'a Value, key: &String) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}
