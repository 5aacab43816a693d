//! The object `WorkflowTaskSet`: the tasks that a Workflow waits for, and their results.
//!
//! The types have only the fields that the executor uses. The source is
//! `pkg/apis/workflow/v1alpha1/workflow_task_set_types.go` of Argo Workflows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::workflow::{API, ended};
use crate::kubernetes::{Metadata, Resource};
use crate::step::Workflow;

/// The label that the controller sets to `true` when the Workflow has ended.
pub const COMPLETED: &str = "workflows.argoproj.io/completed";
/// The label with the id of the controller that the Workflow belongs to.
pub const INSTANCE_ID: &str = "workflows.argoproj.io/controller-instanceid";

/// A `WorkflowTaskSet`, the Kubernetes object. It has the name of its Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TaskSet {
    /// Metadata of the object.
    pub metadata: Metadata,
    /// The tasks, as the controller wrote them.
    pub spec: TaskSetSpec,
    /// The results, as executors and agents wrote them.
    pub status: TaskSetStatus,
}

/// `spec` of a `WorkflowTaskSet`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TaskSetSpec {
    /// Templates by the ids of their nodes.
    pub tasks: BTreeMap<String, Value>,
}

/// `status` of a `WorkflowTaskSet`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TaskSetStatus {
    /// Results by the ids of their nodes.
    pub nodes: BTreeMap<String, ReportedNode>,
}

/// A result in a `WorkflowTaskSet`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReportedNode {
    /// Phase of the node; empty if the result has none.
    pub phase: String,
}

/// The metadata of a `WorkflowTaskSet`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TaskSetMetadata {
    /// Metadata of the object.
    pub metadata: Metadata,
}

impl ReportedNode {
    /// Whether the node has ended.
    pub fn has_ended(&self) -> bool {
        ended(&self.phase) || matches!(self.phase.as_str(), "Skipped" | "Omitted")
    }
}

impl TaskSet {
    /// Whether a task of the object has a template of these kinds.
    pub fn has_tasks(&self, kinds: TemplateKinds) -> bool {
        self.spec
            .tasks
            .values()
            .any(|template| kinds.include(template))
    }

    /// Whether the Workflow has ended, or the object is being deleted.
    pub fn has_ended(&self) -> bool {
        let metadata = &self.metadata;
        let completed = metadata.labels.get(COMPLETED);
        completed.is_some_and(|completed| completed == "true")
            || !metadata.deletion_timestamp.is_empty()
    }

    /// The Workflow of the tasks, as the object names it. `None` if the object does not name a
    /// Workflow of its name: then Argo's controller has not made the object. Compare the uid with
    /// the Workflow itself: who can create TaskSets can write any uid.
    pub fn workflow(&self) -> Option<Workflow> {
        let metadata = &self.metadata;
        let owner = metadata.owner_references.iter().find(|owner| {
            let is_of_argo = owner.api_version.starts_with("argoproj.io/");
            is_of_argo && owner.kind == "Workflow" && owner.name == metadata.name
        })?;
        Some(Workflow {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: owner.uid.clone(),
        })
    }
}

/// The kinds of templates that an executor runs. Other templates belong to other executors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateKinds {
    /// `http` templates, in addition to those of this plugin.
    pub http: bool,
}

impl TemplateKinds {
    /// Whether a template is one of these kinds.
    pub fn include(self, template: &Value) -> bool {
        let is_of_plugin = template.pointer("/plugin/wasm").is_some();
        is_of_plugin || (self.http && template.get("http").is_some_and(Value::is_object))
    }
}

impl Resource for TaskSet {
    const API: &'static str = API;
    const KIND: &'static str = "WorkflowTaskSet";
    const PLURAL: &'static str = "workflowtasksets";
}

impl Resource for TaskSetMetadata {
    const API: &'static str = TaskSet::API;
    const KIND: &'static str = TaskSet::KIND;
    const PLURAL: &'static str = TaskSet::PLURAL;
    const METADATA_ONLY: bool = true;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_served_kinds_are_included() {
        let wasm = json!({"name": "t", "plugin": {"wasm": {}}});
        let other = json!({"name": "t", "plugin": {"other": {}}});
        let http = json!({"name": "t", "http": {"url": "https://a.example"}});
        let absent = json!({"name": "t", "http": null});
        let included = |http_templates: bool| {
            let kinds = TemplateKinds {
                http: http_templates,
            };
            [&wasm, &other, &http, &absent].map(|template| kinds.include(template))
        };
        assert_eq!(included(false), [true, false, false, false]);
        assert_eq!(included(true), [true, false, true, false]);
    }
}
