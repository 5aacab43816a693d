//! The locations of mistakes in a template.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::text::DocumentError;

/// The location of a mistake in a template.
#[derive(Debug)]
pub(super) struct Location {
    /// Keys, indexes, and names of list entries, from the template to the value.
    segments: Vec<String>,
    /// Whether the mistake is an unknown key.
    is_unknown_key: bool,
}

/// A part of the path to a value.
#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Location {
    pub(super) fn of(error: &DocumentError) -> Self {
        let path = error.path().replace('[', ".").replace(']', "");
        let keys = path.split('.').skip(1).map(str::to_owned);
        let unknown = error.unknown_key().map(str::to_owned);
        Self {
            is_unknown_key: unknown.is_some(),
            segments: keys.chain(unknown).collect(),
        }
    }

    pub(super) fn value<'a>(&self, template: &'a Value) -> Option<&'a Value> {
        let mut path = self.segments.iter();
        path.try_fold(template, |value, segment| Some(child(value, segment)?.1))
    }

    /// Removes the value. Returns whether the template is different now.
    ///
    /// - An entry of a list is removed as a whole: the entry may need the value.
    /// - An unknown key is removed alone: nothing needs it.
    /// - The module and the maps around it stay, because a template needs them.
    pub(super) fn remove(&self, template: &mut Value, removed: &mut Removed) -> bool {
        let mut steps = self.steps(template);
        let entry = steps
            .iter()
            .rposition(|step| matches!(step, Step::Index(_)));
        if let (Some(entry), false) = (entry, self.is_unknown_key) {
            steps.truncate(entry + 1);
        }
        let Some(last) = steps.pop() else {
            return false;
        };
        let parent = template.pointer_mut(&pointer(&steps));
        match (last, parent) {
            (Step::Index(index), Some(Value::Array(list))) => {
                list.remove(index);
                removed.add(&document_path(&steps), index);
                true
            }
            (Step::Key(key), Some(Value::Object(map))) => match key.as_str() {
                "plugin" => {
                    let wasm = map.get("plugin").and_then(|plugin| plugin.get("wasm"));
                    let kept = json!({"wasm": wasm});
                    map.insert(key, kept.clone()) != Some(kept)
                }
                "wasm" => add_module(&mut map["wasm"]),
                "module" => map.insert(key, module()) != Some(module()),
                _ => map.remove(&key).is_some(),
            },
            _ => false,
        }
    }

    /// The path to the value, or to its nearest parent that exists.
    fn steps(&self, template: &Value) -> Vec<Step> {
        let mut value = template;
        let mut steps = Vec::new();
        for segment in &self.segments {
            let Some((step, next)) = child(value, segment) else {
                break;
            };
            steps.push(step);
            value = next;
        }
        steps
    }
}

/// The value in a map or a list. A segment for a list is an index, or the name of an entry.
fn child<'a>(value: &'a Value, segment: &str) -> Option<(Step, &'a Value)> {
    match value {
        Value::Object(map) => Some((Step::Key(segment.to_owned()), map.get(segment)?)),
        Value::Array(list) => {
            let named = || list.iter().position(|entry| entry["name"] == segment);
            let index = segment.parse().ok().or_else(named)?;
            Some((Step::Index(index), list.get(index)?))
        }
        _ => None,
    }
}

fn module() -> Value {
    json!("oci://registry.example/module:1")
}

/// Adds a module to `plugin.wasm`. A value that is not a map is replaced. Returns whether the value
/// is different now.
fn add_module(wasm: &mut Value) -> bool {
    match wasm {
        Value::Object(map) if map.get("module").is_some_and(|module| !module.is_null()) => false,
        Value::Object(map) => {
            map.insert("module".to_owned(), module());
            true
        }
        _ => {
            *wasm = json!({"module": module()});
            true
        }
    }
}

/// The steps as a JSON pointer (RFC 6901).
fn pointer(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |path, step| match step {
        Step::Key(key) => path + "/" + &key.replace('~', "~0").replace('/', "~1"),
        Step::Index(index) => format!("{path}/{index}"),
    })
}

/// The steps as the path of a [`DocumentError`].
fn document_path(steps: &[Step]) -> String {
    steps
        .iter()
        .fold("template".to_owned(), |path, step| match step {
            Step::Key(key) => path + "." + key,
            Step::Index(index) => format!("{path}[{index}]"),
        })
}

/// The entries that were removed from lists: the indexes in the template's file, by the path of the
/// list.
#[derive(Debug, Default)]
pub(super) struct Removed(BTreeMap<String, BTreeSet<usize>>);

impl Removed {
    fn add(&mut self, list: &str, index: usize) {
        let index = self.original_index(list, index);
        self.0.entry(list.to_owned()).or_default().insert(index);
    }

    /// The error with the indexes that the template's file has.
    pub(super) fn original(&self, error: DocumentError) -> DocumentError {
        let path = error.path().to_owned();
        let mut original = String::new();
        let mut end = 0;
        for (start, _) in path.match_indices('[') {
            let index = path[start + 1..].split(']').next().unwrap_or_default();
            let Ok(current) = index.parse() else { continue };
            original += &path[end..=start];
            original += &self.original_index(&path[..start], current).to_string();
            end = start + 1 + index.len();
        }
        original += &path[end..];
        error.with_path(original)
    }

    fn original_index(&self, list: &str, current: usize) -> usize {
        let is_removed = |index: &usize| {
            self.0
                .get(list)
                .is_some_and(|removed| removed.contains(index))
        };
        let kept = (0..).filter(|index| !is_removed(index));
        kept.take(current + 1).last().unwrap_or(current)
    }
}
