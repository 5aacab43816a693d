//! Argo's `keyFormat`: the first part of the keys of an execution's outputs.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::argo::workflow;
use crate::step::Workflow;
use crate::text::tags;

/// Values of Argo's variables, by their names without braces.
pub(super) type Variables = BTreeMap<String, String>;

/// The conversions of strftime that Argo has variables for.
const STRFTIME: &str = "aAbBcdDFhHIjkLlmMnprRsStTuUvVwWxXyYzZ";

/// The variables that have a value in this Workflow (Argo's `docs/variables.md`).
pub(super) fn variables(workflow: &workflow::WorkflowObject) -> Variables {
    let mut variables = Variables::new();
    for parameter in &workflow.spec.arguments.parameters {
        let value = parameter.value().unwrap_or_default();
        variables.insert(format!("workflow.parameters.{}", parameter.name), value);
    }
    let metadata = &workflow.metadata;
    for (kind, texts) in [
        ("labels", &metadata.labels),
        ("annotations", &metadata.annotations),
    ] {
        variables.extend(
            texts
                .iter()
                .map(|(name, value)| (format!("workflow.{kind}.{name}"), value.clone())),
        );
    }
    if let Ok(created) = metadata.creation_timestamp.parse::<Timestamp>() {
        variables.insert(
            "workflow.creationTimestamp".to_owned(),
            metadata.creation_timestamp.clone(),
        );
        for letter in STRFTIME.chars() {
            let text = created.strftime(&format!("%{letter}")).to_string();
            variables.insert(format!("workflow.creationTimestamp.{letter}"), text);
        }
        variables.insert(
            "workflow.creationTimestamp.RFC3339".to_owned(),
            metadata.creation_timestamp.clone(),
        );
    }
    variables
}

/// The key prefix of one execution's outputs.
///
/// An execution has no pod. A text that is unique to the execution replaces `{{pod.name}}`, so an
/// attempt never overwrites the outputs of an earlier attempt. If the format does not contain
/// `{{pod.name}}`, that text is appended.
pub(super) fn expand(
    format: &str,
    variables: &Variables,
    workflow: &Workflow,
    template: &str,
) -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let pod = format!(
        "{}-{template}-{since:x}{:06x}",
        workflow.name,
        fastrand::u32(..1 << 24)
    );
    let value = |name: &str| match name {
        "workflow.name" => Some(workflow.name.clone()),
        "workflow.namespace" => Some(workflow.namespace.clone()),
        "workflow.uid" => Some(workflow.uid.clone()),
        "pod.name" => Some(pod.clone()),
        name => variables.get(name).cloned(),
    };
    let Ok(mut key) = tags::replace(format, value) else {
        tracing::warn!(
            format,
            "the repository's `keyFormat` has a variable without a value; the default is used"
        );
        return format!("{}/{pod}", workflow.name);
    };
    if !format.contains("pod.name") {
        key = format!("{}/{pod}", key.trim_end_matches('/'));
    }
    key.trim_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_format_and_are_unique_to_each_execution() {
        let workflow = Workflow {
            name: "wf".to_owned(),
            namespace: "argo".to_owned(),
            uid: "u".to_owned(),
        };
        let read: workflow::WorkflowObject = go_json::from_value(&serde_json::json!({
            "metadata": {"creationTimestamp": "2026-03-09T07:05:00Z", "labels": {"team": "a"}},
            "spec": {"arguments": {"parameters": [{"name": "env", "value": "prod"}, {"name": "n", "value": 3}, {"name": "none", "value": null}]}},
        }))
        .unwrap();
        let known = variables(&read);
        let key = |format: &str| expand(format, &known, &workflow, "t");
        for (format, start) in [
            ("{{workflow.name}}/{{pod.name}}", "wf/wf-t-"),
            (
                "a/{{workflow.creationTimestamp.Y}}/{{workflow.creationTimestamp.m}}/{{ workflow.creationTimestamp.d }}",
                "a/2026/03/09/wf-t-",
            ),
            (
                "{{workflow.namespace}}/{{workflow.parameters.env}}/{{workflow.labels.team}}/{{pod.name}}",
                "argo/prod/a/wf-t-",
            ),
            ("{{workflow.parameters.n}}/{{pod.name}}", "3/wf-t-"),
            ("{{workflow.unknown}}/x", "wf/wf-t-"),
            ("{{ team }}/{{workflow.name}}", "{{ team }}/wf/wf-t-"),
            ("{{workflow.name", "{{workflow.name/wf-t-"),
        ] {
            assert!(key(format).starts_with(start), "{format}: {}", key(format));
        }
        assert_ne!(key("fixed"), key("fixed"));
    }
}
