//! The parts of an Argo template that a plugin has to do with. Everything else in it is ignored, as Argo ignores it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::artifact::{ArchiveLocation, Artifact};
use crate::text::DocumentError;
use crate::text::units::Time;

/// A template.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub inputs: Inputs,
    /// What it gives.
    pub outputs: Outputs,
    /// Where its artifacts go that name no place.
    pub archive_location: Option<ArchiveLocation>,
    /// The longest it may take. Argo enforces it only while the node is pending.
    pub timeout: Option<Time>,
    /// The same, in Argo's older spelling.
    pub active_deadline_seconds: Option<Time>,
    daemon: Option<bool>,
    sidecars: Option<Vec<Value>>,
    init_containers: Option<Vec<Value>>,
    volumes: Option<Value>,
    service_account_name: Option<Value>,
    node_selector: Option<Value>,
    affinity: Option<Value>,
    tolerations: Option<Value>,
    pod_spec_patch: Option<Value>,
    security_context: Option<Value>,
}

/// `inputs`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Inputs {
    /// Parameters.
    pub parameters: Vec<InputParameter>,
    /// Artifacts.
    pub artifacts: Vec<Artifact>,
}

/// `inputs.parameters[]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct InputParameter {
    /// Its name.
    pub name: String,
    /// Its value, which the controller fills in.
    pub value: Option<String>,
    /// Its value when none was given.
    pub default: Option<String>,
}

/// `outputs`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Outputs {
    /// Parameters.
    pub parameters: Vec<OutputParameter>,
    /// Artifacts.
    pub artifacts: Vec<Artifact>,
}

/// `outputs.parameters[]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputParameter {
    /// Its name.
    pub name: String,
    /// A constant.
    pub value: Option<String>,
    /// Where its value comes from.
    pub value_from: Option<ValueFrom>,
    /// The name it is exported under, if it is.
    pub global_name: Option<String>,
}

/// `outputs.parameters[].valueFrom`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ValueFrom {
    /// A file.
    pub path: Option<String>,
    /// The step's result; it has no fields.
    pub supplied: Option<Map<String, Value>>,
    /// What it is otherwise.
    pub default: Option<String>,
    json_path: Option<Value>,
    jq_filter: Option<Value>,
    event: Option<Value>,
    parameter: Option<Value>,
    config_map_key_ref: Option<Value>,
    expression: Option<Value>,
}

impl ValueFrom {
    /// The name of a kind that needs what a plugin has not.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        let kinds = [
            ("jsonPath", &self.json_path),
            ("jqFilter", &self.jq_filter),
            ("event", &self.event),
            ("parameter", &self.parameter),
            ("configMapKeyRef", &self.config_map_key_ref),
            ("expression", &self.expression),
        ];
        kinds
            .into_iter()
            .find(|(_, value)| value.is_some())
            .map(|(name, _)| name)
    }
}

impl Template {
    /// Refuses what cannot work for a plugin; warns of what Argo ignores.
    pub(super) fn check(&self) -> Result<(), DocumentError> {
        let present =
            |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let impossible = [
            ("daemon", self.daemon == Some(true)),
            ("sidecars", present(&self.sidecars)),
            ("initContainers", present(&self.init_containers)),
        ];
        if let Some((name, _)) = impossible.into_iter().find(|(_, set)| *set) {
            let message =
                "does not work for plugin templates, which have no pod of their own; remove it";
            return Err(DocumentError::new(format!("template.{name}"), message));
        }
        let ignored = [
            ("volumes", &self.volumes),
            ("serviceAccountName", &self.service_account_name),
            ("nodeSelector", &self.node_selector),
            ("affinity", &self.affinity),
            ("tolerations", &self.tolerations),
            ("podSpecPatch", &self.pod_spec_patch),
            ("securityContext", &self.security_context),
        ];
        let ignored: Vec<&str> = ignored
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name)
            .collect();
        if !ignored.is_empty() {
            tracing::warn!(
                template = self.name,
                fields = ignored.join(", "),
                "Argo ignores these fields for plugin templates"
            );
        }
        Ok(())
    }
}
