//! The object `Workflow`, as the Kubernetes API has it.
//!
//! The types have only the fields that the executor uses. The source is
//! `pkg/apis/workflow/v1alpha1/workflow_types.go` of Argo Workflows.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::kubernetes::{Kubernetes, KubernetesError, Metadata, Resource};

/// Path of Argo's API group.
pub(super) const API: &str = "/apis/argoproj.io/v1alpha1";
/// Most bytes of the nodes of a Workflow, uncompressed.
const MAX_NODES_BYTES: u64 = 64 << 20;

/// A `Workflow`, the Kubernetes object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowObject {
    /// Metadata of the object.
    pub metadata: Metadata,
    /// Specification, as the author of the workflow wrote it.
    pub spec: WorkflowSpec,
    /// Status, as the controller wrote it.
    pub status: WorkflowStatus,
}

/// `spec` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowSpec {
    /// Arguments of the workflow.
    pub arguments: WorkflowArguments,
    /// The artifact repository that the author chose.
    pub artifact_repository_ref: Option<ArtifactRepositoryRef>,
    /// `Stop` or `Terminate` once a user has asked for it; empty before.
    pub shutdown: String,
    /// Longest time of the workflow without its exit handlers, in seconds.
    pub active_deadline_seconds: Option<i64>,
    /// Name of the template with which the workflow starts.
    pub entrypoint: String,
    /// Name of the template of the exit handler; empty if the Workflow has no exit handler.
    pub on_exit: String,
    /// Hooks of the workflow, by name, as Argo has them.
    pub hooks: BTreeMap<String, Value>,
    /// Templates, as Argo has them.
    pub templates: Vec<Value>,
}

/// `spec.artifactRepositoryRef` of a Workflow: a key of a `ConfigMap`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactRepositoryRef {
    /// Name of the `ConfigMap`; `artifact-repositories` if empty.
    pub config_map: String,
    /// Key in the `ConfigMap`; the default that the `ConfigMap` names if empty.
    pub key: String,
}

/// `spec.arguments` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WorkflowArguments {
    /// Parameters of the workflow.
    pub parameters: Vec<WorkflowParameter>,
}

/// `spec.arguments.parameters[]` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WorkflowParameter {
    /// Name of the parameter.
    pub name: String,
    /// Value of the parameter. Argo accepts any scalar in place of a text
    /// (`pkg/apis/workflow/v1alpha1/anystring.go`).
    value: Option<serde_json::Value>,
}

impl WorkflowParameter {
    /// The value as a text.
    pub fn value(&self) -> Option<String> {
        match self.value.as_ref()? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// `status` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowStatus {
    /// The artifact repository that the controller resolved.
    pub artifact_repository_ref: Option<ArtifactRepositoryStatus>,
    /// `Succeeded`, `Failed` or `Error` once the workflow has ended.
    pub phase: String,
    /// Time at which the controller started the workflow (RFC 3339); empty before.
    pub started_at: Option<String>,
    /// The specification that is in force if `spec.workflowTemplateRef` names a `WorkflowTemplate`.
    pub stored_workflow_template_spec: Option<Box<WorkflowSpec>>,
    /// Templates of other objects that the workflow has used, by `SCOPE/OBJECT/TEMPLATE`.
    pub stored_templates: BTreeMap<String, Value>,
    /// Nodes, by their ids.
    pub nodes: BTreeMap<String, WorkflowNode>,
    /// The nodes as JSON in gzip and base64, if there are too many for `nodes`.
    pub compressed_nodes: String,
    /// Version of the nodes in the controller's database; empty if they are in the object.
    pub offload_node_status_version: String,
}

/// `status.artifactRepositoryRef` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactRepositoryStatus {
    /// The artifact repository, in Argo's format.
    pub artifact_repository: Option<Value>,
}

/// `status.nodes.*` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowNode {
    /// Name of the node, such as `WORKFLOW[0].STEP(0:ITEM)`.
    pub name: String,
    /// Short name of the node: the name without the names of its parents.
    pub display_name: String,
    /// Type of the node, such as `Plugin`, `Pod` or `Steps`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Phase of the node; empty or `Pending` before it runs.
    pub phase: String,
    /// Name of the template.
    pub template_name: String,
    /// Reference to a template of another object.
    pub template_ref: Option<TemplateRef>,
    /// Where a template without a reference is: `local/WORKFLOW`, or `SCOPE/OBJECT`.
    pub template_scope: String,
    /// Id of the node of the steps or the DAG to which this node belongs.
    #[serde(rename = "boundaryID")]
    pub boundary_id: String,
    /// Inputs of the node, as Argo has them.
    pub inputs: Value,
}

/// `templateRef` of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateRef {
    /// Name of the other object.
    pub name: String,
    /// Whether the other object is a `ClusterWorkflowTemplate`.
    pub cluster_scope: bool,
    /// Name of the template in the other object.
    pub template: String,
}

impl Resource for WorkflowObject {
    const API: &'static str = API;
    const KIND: &'static str = "Workflow";
    const PLURAL: &'static str = "workflows";
}

impl WorkflowObject {
    /// Reads a Workflow.
    pub async fn read(
        kubernetes: &Kubernetes,
        namespace: &str,
        name: &str,
    ) -> Result<Self, KubernetesError> {
        kubernetes.get(namespace, name).await
    }

    /// The specification in force.
    pub fn specification(&self) -> &WorkflowSpec {
        let stored = self.status.stored_workflow_template_spec.as_deref();
        stored.unwrap_or(&self.spec)
    }

    /// The time at which `activeDeadlineSeconds` ends the workflow. `None` without this field, and
    /// before the workflow starts.
    pub fn deadline(&self) -> Option<SystemTime> {
        let own = self.spec.active_deadline_seconds;
        let seconds = own.or(self.specification().active_deadline_seconds)?;
        let started = self.status.started_at.as_ref()?.parse::<Timestamp>().ok()?;
        let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
        SystemTime::from(started).checked_add(seconds)
    }

    /// Whether the workflow has an exit handler or a hook.
    pub fn has_exit_handler(&self) -> bool {
        let spec = self.specification();
        !spec.on_exit.is_empty() || !spec.hooks.is_empty()
    }

    /// Whether the workflow has ended.
    pub fn has_ended(&self) -> bool {
        ended(&self.status.phase)
    }

    /// Whether the controller keeps the nodes in its database, because they do not fit into the
    /// object.
    pub fn nodes_are_elsewhere(&self) -> bool {
        !self.status.offload_node_status_version.is_empty()
    }

    /// The nodes; `None` if the object does not contain them. Decompresses them if needed, which
    /// can take long.
    pub fn nodes(&self) -> Option<BTreeMap<String, WorkflowNode>> {
        let status = &self.status;
        if status.compressed_nodes.is_empty() {
            return Some(&status.nodes)
                .filter(|nodes| !nodes.is_empty())
                .cloned();
        }
        let packed = STANDARD.decode(&status.compressed_nodes).ok()?;
        let mut text = Vec::new();
        GzDecoder::new(packed.as_slice())
            .take(MAX_NODES_BYTES)
            .read_to_end(&mut text)
            .ok()?;
        go_json::from_slice(&text).ok()
    }
}

impl WorkflowNode {
    /// Name of the node's template, in the Workflow or in another object.
    pub fn template(&self) -> &str {
        self.template_ref
            .as_ref()
            .map_or(&self.template_name, |reference| &reference.template)
    }

    /// Whether this node or a parent of this node is an exit handler (Argo's
    /// `NodeStatus.IsPartOfExitHandler`).
    pub fn is_part_of_exit_handler(&self, nodes: &BTreeMap<String, Self>) -> bool {
        let parents = std::iter::successors(Some(self), |node| nodes.get(&node.boundary_id));
        // A chain of parents is not longer than the list of nodes.
        parents
            .take(nodes.len() + 1)
            .any(|node| node.display_name.ends_with(".onExit"))
    }

    /// Whether this is a node of a `plugin` or `http` template that has not ended.
    pub fn waits_for_executor(&self) -> bool {
        let has_task = matches!(self.kind.as_str(), "Plugin" | "HTTP");
        has_task && matches!(self.phase.as_str(), "" | "Pending" | "Running")
    }
}

/// Whether a node or a Workflow with this phase has ended.
pub(super) fn ended(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed" | "Error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_absence_everywhere_in_a_workflow() {
        for json in [
            r#"{"metadata": null, "spec": null, "status": null}"#,
            r#"{"metadata": {"labels": null, "annotations": null, "creationTimestamp": null, "uid": null},
                "spec": {"arguments": null, "artifactRepositoryRef": null, "shutdown": null},
                "status": {"artifactRepositoryRef": null, "phase": null, "nodes": null, "compressedNodes": null}}"#,
            r#"{"spec": {"arguments": {"parameters": null}}, "status": {"nodes": {}}}"#,
        ] {
            let workflow: WorkflowObject = go_json::from_slice(json.as_bytes()).unwrap();
            assert!(
                !workflow.has_ended() && workflow.nodes().is_none(),
                "{json}"
            );
        }
        let nodes = r#"{"status": {"nodes": {"a": null, "b": {"type": "Plugin", "phase": null, "templateRef": null}}}}"#;
        let workflow: WorkflowObject = go_json::from_slice(nodes.as_bytes()).unwrap();
        let nodes = workflow.nodes().unwrap();
        assert!(nodes["b"].waits_for_executor() && !nodes["a"].waits_for_executor());
    }
}
