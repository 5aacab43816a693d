//! Uses of a template by the nodes of a Workflow that wait for a step.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::ResultRequest;
use super::node_name::below_parent;
use super::uses::{References, Use, stored_key};
use crate::argo::workflow::{WorkflowNode, WorkflowObject};

/// The uses of the nodes that can belong to the step of a request: nodes with its template and its
/// input parameters.
pub(super) fn uses(
    workflow: &WorkflowObject,
    nodes: &BTreeMap<String, WorkflowNode>,
    request: &ResultRequest,
) -> HashSet<Use> {
    nodes
        .values()
        .filter(|node| node.waits_for_executor() && node.template() == request.template)
        .filter(|node| parameters(&node.inputs) == request.parameters)
        .map(|node| use_of(workflow, nodes, node))
        .collect()
}

/// The input parameters of a node, by name.
fn parameters(inputs: &Value) -> BTreeMap<String, String> {
    let list = inputs.get("parameters").and_then(Value::as_array);
    let parameter = |parameter: &Value| {
        let name = parameter.get("name")?.as_str()?;
        let value = parameter.get("value").and_then(Value::as_str);
        Some((name.to_owned(), value.unwrap_or_default().to_owned()))
    };
    list.into_iter().flatten().filter_map(parameter).collect()
}

fn use_of(
    workflow: &WorkflowObject,
    nodes: &BTreeMap<String, WorkflowNode>,
    node: &WorkflowNode,
) -> Use {
    // The entry template and the exit handler belong to no other template.
    let unused = Use {
        in_loop: false,
        referred: false,
    };
    let Some(parent) = nodes.get(&node.boundary_id) else {
        return unused;
    };
    let rest = node.name.strip_prefix(parent.name.as_str());
    let Some(place) = rest.and_then(below_parent) else {
        return unused;
    };
    let template = template(workflow, parent);
    Use {
        in_loop: place.in_loop,
        // The templates of some inline steps cannot be found by the name of their node.
        referred: template.is_none_or(|template| References::of(template).contain(place.name)),
    }
}

/// The template of a node with steps or tasks.
fn template<'a>(workflow: &'a WorkflowObject, node: &WorkflowNode) -> Option<&'a Value> {
    let stored = &workflow.status.stored_templates;
    if let Some(other) = &node.template_ref {
        return stored.get(&stored_key(
            other.cluster_scope,
            &other.name,
            &other.template,
        ));
    }
    let scope = node.template_scope.as_str();
    if !scope.is_empty() && !scope.starts_with("local/") {
        return stored.get(&format!("{scope}/{}", node.template_name));
    }
    let templates = &workflow.specification().templates;
    let named = |template: &&Value| {
        !node.template_name.is_empty() && template["name"] == node.template_name.as_str()
    };
    templates.iter().find(named)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::argo::result::ResultUse;
    use crate::argo::result::uses::decide;

    #[test]
    fn nodes_with_the_same_template_are_distinguished_by_their_inputs() {
        let inputs = |text: &str| json!({"parameters": [{"name": "text", "value": text}]});
        let node = |name: &str, boundary: &str, text: &str| {
            json!({"type": "Plugin", "templateName": "say", "phase": "Pending", "name": name,
                "boundaryID": boundary, "inputs": inputs(text)})
        };
        let steps = |name: &str, template: &str, scope: &str| json!({"type": "Steps", "templateName": template, "templateScope": scope, "phase": "Running", "name": name});
        let calls = json!([[{"name": "one", "template": "say"}, {"name": "each", "template": "say", "withItems": [1]}],
            [{"name": "next", "template": "other", "arguments": {"parameters": [{"name": "p", "value": "{{steps.one.outputs.result}}"}]}}]]);
        let workflow: WorkflowObject = serde_json::from_value(json!({
            "spec": {"templates": [{"name": "main", "steps": calls}]},
            "status": {
                "storedTemplates": {"namespaced/lib/main": {"name": "main", "steps": [[{"name": "one", "template": "say"}]]}},
                "nodes": {
                    "1": steps("wf", "main", "local/wf"),
                    "2": node("wf[0].one", "1", "a"), "3": node("wf[0].each(0:b)", "1", "b"),
                    "4": node("wf[0].one", "1", "c"), "5": node("wf[0].each(1:c)(0)", "1", "c"),
                    "6": steps("wf[0].lib", "main", "namespaced/lib"), "7": node("wf[0].lib[0].one", "6", "d"),
                    "8": node("wf", "", "e"),
                    "9": {"type": "Plugin", "templateName": "say", "phase": "Succeeded", "name": "wf[0].each(2:a)", "boundaryID": "1", "inputs": inputs("a")},
                },
            },
        }))
        .unwrap();
        let nodes = workflow.nodes().unwrap();
        let of = |text: &str| {
            let parameters = [("text".to_owned(), text.to_owned())].into();
            let request = ResultRequest {
                template: "say".to_owned(),
                parameters,
                ..ResultRequest::default()
            };
            decide(&uses(&workflow, &nodes, &request))
        };
        assert_eq!(of("a"), Some(ResultUse::Single));
        assert_eq!(of("b"), Some(ResultUse::Unused));
        assert_eq!(of("c"), None, "two nodes have the same inputs");
        assert_eq!(of("d"), Some(ResultUse::Unused));
        assert_eq!(of("e"), Some(ResultUse::Unused));
        assert_eq!(of("f"), None);
    }
}
