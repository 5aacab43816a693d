//! The parts of an Argo template that concern a plugin. Other fields are ignored, as Argo ignores
//! them for plugins.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::artifact::{ArchiveLocation, Artifact};
use super::artifact_context::ArtifactContext;
use super::repository::DestinationLookup;
use crate::step::ArtifactDestination;
use crate::text::DocumentError;
use crate::text::units::Time;

/// A template of a Workflow, without its `plugin` block.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// Name of the template.
    pub name: String,
    /// Inputs of the template.
    pub inputs: Inputs,
    /// Outputs of the template.
    pub outputs: Outputs,
    /// Location for artifacts that name none.
    pub archive_location: Option<ArchiveLocation>,
    /// Longest time of the whole step.
    pub timeout: Option<Time>,
    /// Longest time of the whole step, as older versions of Argo spell it.
    pub active_deadline_seconds: Option<Time>,
    pending_timeout: Option<Value>,
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
    /// Input parameters.
    pub parameters: Vec<InputParameter>,
    /// Input artifacts.
    pub artifacts: Vec<Artifact>,
}

/// `inputs.parameters[]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct InputParameter {
    /// Name of the parameter.
    pub name: String,
    /// Value of the parameter, which Argo's controller fills in.
    pub value: Option<String>,
    /// Value if the workflow supplies none.
    pub default: Option<String>,
}

/// `outputs`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Outputs {
    /// Output parameters.
    pub parameters: Vec<OutputParameter>,
    /// Output artifacts.
    pub artifacts: Vec<Artifact>,
}

/// `outputs.parameters[]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputParameter {
    /// Name of the parameter, unique among the output parameters.
    pub name: String,
    /// A constant value.
    pub value: Option<String>,
    /// Where the value comes from.
    pub value_from: Option<ValueFrom>,
    /// Name under which the workflow exports the parameter.
    pub global_name: Option<String>,
}

/// `outputs.parameters[].valueFrom`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ValueFrom {
    /// Path of the file with the value.
    pub path: Option<String>,
    /// Marks a parameter whose value the module reports. The map has no fields.
    pub supplied: Option<Map<String, Value>>,
    /// Value if the step has none.
    pub default: Option<String>,
    json_path: Option<Value>,
    jq_filter: Option<Value>,
    event: Option<Value>,
    parameter: Option<Value>,
    config_map_key_ref: Option<Value>,
    expression: Option<Value>,
}

impl ValueFrom {
    /// The key of a kind that works only for templates with a pod, if there is one.
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
    /// The context of the template's artifacts: a complete `archiveLocation` replaces the
    /// destination in `context`.
    pub(super) fn artifact_context(
        &self,
        context: ArtifactContext,
    ) -> Result<ArtifactContext, DocumentError> {
        let Some(archive_location) = &self.archive_location else {
            return Ok(context);
        };
        let Some(location) = archive_location.location("template.archiveLocation")? else {
            return Ok(context);
        };
        let destination = ArtifactDestination {
            repository: location.repository,
            key: location.key.trim_end_matches('/').to_owned(),
            default: false,
            archive_logs: archive_location.archive_logs == Some(true),
        };
        Ok(ArtifactContext {
            destination: DestinationLookup::Known(destination),
            ..context
        })
    }

    /// Whether the template declares artifacts, or stores the output of the module as one.
    pub fn has_artifacts(&self) -> bool {
        let stores_logs = self
            .archive_location
            .as_ref()
            .is_some_and(|location| location.archive_logs == Some(true));
        stores_logs || !self.inputs.artifacts.is_empty() || !self.outputs.artifacts.is_empty()
    }

    /// The time after which Argo's controller ends the node, if the node is still `Pending`
    /// (`checkTemplateTimeouts` in `workflow/controller/operator.go`). A malformed `pendingTimeout`
    /// is ignored.
    pub fn pending_limit(&self) -> Option<Duration> {
        let pending = self.pending_timeout.as_ref().and_then(Value::as_str);
        let pending = pending.and_then(|text| text.parse::<Time>().ok());
        self.timeout
            .into_iter()
            .chain(pending)
            .map(|time| time.0)
            .min()
    }

    /// The fields of the template that Argo ignores for plugins.
    pub fn ignored_fields(&self) -> Vec<&'static str> {
        let fields = [
            ("volumes", &self.volumes),
            ("serviceAccountName", &self.service_account_name),
            ("nodeSelector", &self.node_selector),
            ("affinity", &self.affinity),
            ("tolerations", &self.tolerations),
            ("podSpecPatch", &self.pod_spec_patch),
            ("securityContext", &self.security_context),
        ];
        let set = fields.into_iter().filter(|(_, value)| value.is_some());
        set.map(|(name, _)| name).collect()
    }

    /// Refuses keys that cannot work for a plugin, and logs a warning for keys that Argo ignores.
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
        let ignored = self.ignored_fields();
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
