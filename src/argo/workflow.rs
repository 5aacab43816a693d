//! The object `Workflow`, as the Kubernetes API has it.
//!
//! The types have only the fields that the executor uses. The source is
//! `pkg/apis/workflow/v1alpha1/workflow_types.go` of Argo Workflows.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::kubernetes::{Kubernetes, KubernetesError, Metadata, Resource};

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
    /// Value of the parameter.
    pub value: Option<String>,
}

/// `status` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowStatus {
    /// The artifact repository that the controller resolved.
    pub artifact_repository_ref: Option<ArtifactRepositoryStatus>,
    /// `Succeeded`, `Failed` or `Error` once the workflow has ended.
    pub phase: String,
    /// Nodes, by their ids.
    pub nodes: BTreeMap<String, WorkflowNode>,
    /// The nodes as JSON in gzip and base64, if there are too many for `nodes`.
    pub compressed_nodes: String,
}

/// `status.artifactRepositoryRef` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactRepositoryStatus {
    /// The artifact repository, in Argo's format.
    pub artifact_repository: Option<serde_json::Value>,
}

/// `status.nodes.*` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowNode {
    /// Type of the node, such as `Plugin`, `Pod` or `Steps`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Phase of the node; empty or `Pending` before it runs.
    pub phase: String,
    /// Name of the template.
    pub template_name: String,
    /// Reference to a template of another object.
    pub template_ref: Option<TemplateRef>,
}

/// `templateRef` of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TemplateRef {
    /// Name of the template in the other object.
    pub template: String,
}

impl Resource for WorkflowObject {
    const API: &'static str = "/apis/argoproj.io/v1alpha1";
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

    /// Whether the workflow has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed" | "Error")
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
        serde_json::from_slice(&text).ok()
    }
}

impl WorkflowNode {
    /// Name of the node's template, in the Workflow or in another object.
    pub fn template(&self) -> &str {
        self.template_ref
            .as_ref()
            .map_or(&self.template_name, |reference| &reference.template)
    }

    /// Whether this is a node of a plugin template that has not ended.
    pub fn waits_for_plugin(&self) -> bool {
        self.kind == "Plugin" && matches!(self.phase.as_str(), "" | "Pending" | "Running")
    }
}
