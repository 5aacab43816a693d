//! Uses of templates in a Workflow: which step or task calls a template, and what refers to its
//! result.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::ResultUse;
use crate::argo::workflow::WorkflowObject;

/// One use of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Use {
    /// Whether the step or task is a loop.
    pub(super) in_loop: bool,
    /// Whether the template that contains the step or task refers to the result.
    pub(super) referred: bool,
}

/// The decision for a step that can belong to each of these uses. `None` if the uses need different
/// results, or if there is no use.
pub(super) fn decide(uses: &HashSet<Use>) -> Option<ResultUse> {
    let all = |check: fn(&Use) -> bool| !uses.is_empty() && uses.iter().all(check);
    if all(|found| !found.referred) {
        Some(ResultUse::Unused)
    } else if all(|found| !found.in_loop) {
        Some(ResultUse::Single)
    } else if all(|found| found.in_loop) {
        Some(ResultUse::Loop)
    } else {
        None
    }
}

/// All uses in one Workflow, by the name of the used template.
#[derive(Debug)]
pub(super) struct TemplateUses {
    uses: HashMap<String, HashSet<Use>>,
    /// Whether every template is known that the Workflow can use.
    ///
    /// The controller adds the templates of other objects when it needs them. So a later read of
    /// the Workflow can contain more uses.
    complete: bool,
}

impl TemplateUses {
    /// Finds the uses in the Workflow.
    pub(super) fn of(workflow: &WorkflowObject) -> Self {
        let spec = workflow.specification();
        let mut found = Self {
            uses: HashMap::new(),
            complete: true,
        };
        let local: HashSet<&str> = spec.templates.iter().filter_map(name).collect();
        for template in &spec.templates {
            found.read(template, &|callee| local.contains(callee), workflow);
        }
        for (key, template) in &workflow.status.stored_templates {
            let object = key.rsplit_once('/').map_or("", |(object, _)| object);
            let object = object.strip_suffix("/inline").unwrap_or(object);
            let known = |callee: &str| {
                let stored = &workflow.status.stored_templates;
                stored.contains_key(&format!("{object}/{callee}"))
            };
            found.read(template, &known, workflow);
        }
        let hooks = spec.hooks.values().filter_map(callee);
        let roots = [spec.entrypoint.as_str(), spec.on_exit.as_str()];
        for root in roots.into_iter().chain(hooks.map(|callee| callee.name)) {
            found.add(root, false, false);
        }
        found
    }

    /// The use of a template's result, if all steps with this template use the result in one way.
    pub(super) fn of_template(&self, template: &str) -> Option<ResultUse> {
        self.complete.then(|| decide(self.uses.get(template)?))?
    }

    /// Whether a later read of the Workflow cannot contain more uses.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    fn add(&mut self, template: &str, in_loop: bool, referred: bool) {
        let uses = self.uses.entry(template.to_owned()).or_default();
        uses.insert(Use { in_loop, referred });
    }

    /// Adds the uses in one template. `known` tells whether a template of the same object is known.
    fn read(&mut self, template: &Value, known: &dyn Fn(&str) -> bool, workflow: &WorkflowObject) {
        let references = References::of(template);
        for step in steps(template) {
            let step_name = name(step).unwrap_or_default();
            let hooks = step.get("hooks").and_then(Value::as_object);
            let hooks = hooks.into_iter().flatten();
            let on_exit = step.get("onExit").map(|callee| ("onExit", callee));
            for (hook, called) in hooks
                .map(|(hook, called)| (hook.as_str(), called))
                .chain(on_exit)
            {
                self.call(called, known, workflow, false, references.contain(hook));
            }
            let referred = references.contain(step_name);
            self.call(step, known, workflow, is_loop(step), referred);
        }
    }

    fn call(
        &mut self,
        calling: &Value,
        known: &dyn Fn(&str) -> bool,
        workflow: &WorkflowObject,
        in_loop: bool,
        referred: bool,
    ) {
        let Some(callee) = callee(calling) else {
            return;
        };
        let is_known = match &callee.place {
            Place::SameObject => known(callee.name),
            Place::Inline(template) => {
                self.read(template, known, workflow);
                true
            }
            Place::Stored(key) => workflow.status.stored_templates.contains_key(key),
        };
        self.complete &= is_known;
        self.add(callee.name, in_loop, referred);
    }
}

/// The template that a step, a task or a hook calls.
struct Callee<'a> {
    name: &'a str,
    place: Place<'a>,
}

enum Place<'a> {
    /// In the object of the caller.
    SameObject,
    /// In the step or task itself.
    Inline(&'a Value),
    /// In another object. The key is the one in `status.storedTemplates`.
    Stored(String),
}

fn callee(calling: &Value) -> Option<Callee<'_>> {
    if let Some(template) = calling.get("inline").filter(|inline| inline.is_object()) {
        return Some(Callee {
            name: name(template).unwrap_or_default(),
            place: Place::Inline(template),
        });
    }
    if let Some(reference) = calling.get("templateRef").filter(|other| other.is_object()) {
        let text = |key| reference.get(key).and_then(Value::as_str).unwrap_or("");
        let cluster = reference.get("clusterScope") == Some(&Value::Bool(true));
        return Some(Callee {
            name: text("template"),
            place: Place::Stored(stored_key(cluster, text("name"), text("template"))),
        });
    }
    // `onExit` of a step is the name itself.
    let named = calling.get("template").unwrap_or(calling);
    let name = named.as_str().filter(|name| !name.is_empty())?;
    Some(Callee {
        name,
        place: Place::SameObject,
    })
}

/// The key of a referenced template in `status.storedTemplates` (Argo's
/// `resolveTemplateReference`).
pub(super) fn stored_key(cluster: bool, object: &str, template: &str) -> String {
    let scope = if cluster { "cluster" } else { "namespaced" };
    format!("{scope}/{object}/{template}")
}

fn name(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

/// The steps or tasks of a template.
fn steps(template: &Value) -> impl Iterator<Item = &Value> {
    let groups = template.get("steps").and_then(Value::as_array);
    let groups = groups.into_iter().flatten();
    let steps = groups.filter_map(Value::as_array).flatten();
    let tasks = template.get("dag").and_then(|dag| dag.get("tasks"));
    let tasks = tasks.and_then(Value::as_array).into_iter().flatten();
    steps.chain(tasks)
}

/// Whether a step or task is a loop.
fn is_loop(step: &Value) -> bool {
    let keys = ["withItems", "withParam", "withSequence"];
    keys.into_iter()
        .filter_map(|key| step.get(key))
        .any(|value| !value.is_null() && value != "")
}

/// The references to results in a template.
///
/// Argo searches the template's JSON for `steps.NAME.outputs.result` and for
/// `steps['NAME'].outputs.result` (`hasOutputResultRef`). This search also finds other spellings of
/// expressions, such as `steps["NAME"]["outputs"]["result"]`.
pub(super) struct References {
    kind: &'static str,
    text: String,
}

impl References {
    pub(super) fn of(template: &Value) -> Self {
        let kind = match template.get("dag") {
            Some(_) => "tasks",
            None => "steps",
        };
        let mut text = String::new();
        for character in template.to_string().chars() {
            match character {
                '[' => text.push('.'),
                ']' | '"' | '\'' | '\\' | '?' | ' ' => {}
                other => text.push(other),
            }
        }
        // A dot before a bracket, as in `steps.["NAME"]` or `steps?.["NAME"]`.
        let text = text.replace("..", ".");
        Self { kind, text }
    }

    /// Whether the template refers to the result of this step or task.
    pub(super) fn contain(&self, step: &str) -> bool {
        let reference = format!("{}.{step}.outputs.result", self.kind);
        !step.is_empty() && self.text.contains(&reference)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn uses(workflow: &Value) -> TemplateUses {
        TemplateUses::of(&serde_json::from_value(workflow.clone()).unwrap())
    }

    fn of_spec(templates: &Value) -> TemplateUses {
        uses(&json!({"spec": {"entrypoint": "main", "templates": templates}}))
    }

    fn leaf(name: &str) -> Value {
        json!({"name": name, "plugin": {"wasm": {}}})
    }

    #[test]
    fn the_use_of_a_result_follows_from_all_steps_with_the_template() {
        let reference = |text: &str| json!({"parameters": [{"name": "p", "value": text}]});
        let main = json!({"name": "main", "steps": [
            [{"name": "a", "template": "referred"}, {"name": "b", "template": "unused"},
             {"name": "c", "template": "loop", "withItems": [1]}, {"name": "d", "template": "unused-loop", "withParam": "[1]"},
             {"name": "e", "template": "mixed", "withSequence": {"count": "2"}}, {"name": "f", "template": "mixed"},
             {"name": "g", "template": "both-unused", "withItems": [1]}, {"name": "h", "template": "both-unused"},
             {"name": "i", "template": "once-referred"}, {"name": "j", "template": "once-referred"}],
            [{"name": "next", "template": "leaf", "arguments": reference(
                "{{steps.a.outputs.result}} {{ steps.c.outputs.result }} {{=steps['f'].outputs.result}} {{=steps[\"i\"][\"outputs\"].result}}")}],
        ]});
        let templates: Vec<Value> = [
            "referred",
            "unused",
            "loop",
            "unused-loop",
            "mixed",
            "both-unused",
            "once-referred",
            "leaf",
        ]
        .map(leaf)
        .into_iter()
        .chain([main])
        .collect();
        let found = of_spec(&json!(templates));
        for (template, expected) in [
            ("referred", Some(ResultUse::Single)),
            ("unused", Some(ResultUse::Unused)),
            ("loop", Some(ResultUse::Loop)),
            ("unused-loop", Some(ResultUse::Unused)),
            ("mixed", None),
            ("both-unused", Some(ResultUse::Unused)),
            ("once-referred", Some(ResultUse::Single)),
            ("leaf", Some(ResultUse::Unused)),
            ("main", Some(ResultUse::Unused)),
            ("unknown", None),
        ] {
            assert_eq!(found.of_template(template), expected, "{template}");
        }
    }

    #[test]
    fn tasks_inline_templates_hooks_and_outputs_of_parents_are_read() {
        let inner = json!({"dag": {"tasks": [{"name": "t", "template": "of-dag", "withItems": ["x"]}]},
            "outputs": {"parameters": [{"name": "o", "valueFrom": {"expression": "tasks?.t?.outputs.result"}}]}});
        let main = json!({"name": "main", "steps": [[{"name": "s", "inline": inner, "onExit": "cleanup"},
            {"name": "u", "inline": {"plugin": {"wasm": {}}}, "withItems": [1],
             "hooks": {"exit": {"template": "hook", "expression": "true"}}}]]});
        let templates = json!([main, leaf("of-dag"), leaf("cleanup"), leaf("hook")]);
        let found = of_spec(&templates);
        assert_eq!(found.of_template("of-dag"), Some(ResultUse::Loop));
        for unused in ["cleanup", "hook", ""] {
            assert_eq!(
                found.of_template(unused),
                Some(ResultUse::Unused),
                "{unused}"
            );
        }
    }

    #[test]
    fn templates_of_other_objects_are_read_once_the_controller_has_stored_them() {
        let call = |template: &str| json!([[{"name": "s", "templateRef": {"name": "lib", "template": template}}]]);
        let workflow = |stored: Value| {
            json!({
                "spec": {"entrypoint": "main", "templates": [{"name": "main", "steps": call("each")}]},
                "status": {"storedTemplates": stored},
            })
        };
        let each = json!({"name": "each", "dag": {"tasks": [{"name": "t", "template": "say", "withItems": [1]}]}});
        for incomplete in [json!({}), json!({"namespaced/lib/each": each})] {
            let found = uses(&workflow(incomplete));
            assert!(!found.is_complete() && found.of_template("say").is_none());
        }
        let found = uses(&workflow(
            json!({"namespaced/lib/each": each, "namespaced/lib/say": leaf("say")}),
        ));
        assert_eq!(found.of_template("say"), Some(ResultUse::Unused));
        // The specification of a WorkflowTemplate replaces that of the Workflow.
        let found = uses(
            &json!({"spec": {"workflowTemplateRef": {"name": "lib"}}, "status": {
            "storedWorkflowTemplateSpec": {"entrypoint": "each", "templates": [each, leaf("say")]}}}),
        );
        assert_eq!(found.of_template("say"), Some(ResultUse::Unused));
        // A template that the workflow chooses while it runs.
        let dynamic = json!([{"name": "main", "steps": [[{"name": "s", "template": "{{item}}", "withItems": ["say"]}]]}, leaf("say")]);
        assert_eq!(of_spec(&dynamic).of_template("say"), None);
    }
}
