//! Flags of `serve --cluster`.

use clap::Args;

use super::Failure;
use crate::cluster;
use crate::config::Config;

#[derive(Clone, Debug, Args)]
pub(super) struct ClusterFlags {
    /// Serve the WorkflowTaskSets of the cluster instead of calls of Argo's agent
    #[arg(long, env = "WASM_WORKFLOW_CLUSTER")]
    pub(super) cluster: bool,
    /// With --cluster: id of this replica, such as the uid of its pod; a replica that starts again with
    /// its id continues its Workflows
    #[arg(
        long,
        value_name = "ID",
        env = "WASM_WORKFLOW_REPLICA",
        requires = "cluster"
    )]
    replica: Option<String>,
    /// With --cluster: name of the pod of this replica; its Lease is deleted with the pod
    #[arg(
        long,
        value_name = "NAME",
        env = "WASM_WORKFLOW_POD",
        requires = "cluster"
    )]
    pod: Option<String>,
    /// With --cluster: serve only this namespace [default: all namespaces]
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "WASM_WORKFLOW_NAMESPACE",
        requires = "cluster"
    )]
    namespace: Option<String>,
    /// With --cluster: serve only WorkflowTaskSets with these labels, as in `kubectl --selector`
    #[arg(
        long,
        value_name = "LABELS",
        env = "WASM_WORKFLOW_SELECTOR",
        requires = "cluster"
    )]
    selector: Option<String>,
    /// With --cluster: serve the controller with this `instanceID` [default: the one without]
    #[arg(
        long,
        value_name = "ID",
        env = "WASM_WORKFLOW_INSTANCE_ID",
        requires = "cluster"
    )]
    instance_id: Option<String>,
    /// With --cluster: run `http` templates, too; only for controllers without agent's pods
    #[arg(long, env = "WASM_WORKFLOW_HTTP_TEMPLATES", requires = "cluster")]
    http_templates: bool,
}

impl ClusterFlags {
    /// The settings of the replica.
    pub(super) fn settings(&self, config: &Config) -> Result<cluster::Settings, Failure> {
        let replica = self.replica.clone().ok_or_else(|| {
            Failure::usage(
                "--cluster needs --replica\nhint: set WASM_WORKFLOW_REPLICA to the pod's `metadata.uid`",
            )
        })?;
        if !is_label_value(&replica) {
            return Err(Failure::usage(format!(
                "--replica `{replica}` cannot be a label: it must have 1 to 63 letters, digits, `-`, `_` and `.`, and begin and end with a letter or digit"
            )));
        }
        Ok(cluster::Settings {
            replica,
            namespace: self.namespace.clone(),
            selector: self.selector.clone().unwrap_or_default(),
            instance_id: self.instance_id.clone(),
            pod: self.pod.clone(),
            http_templates: self.http_templates,
            slots: config.capacity.steps as usize,
            lease_duration: config.cluster.lease_duration.0,
            requeue_time: config.cluster.requeue_time.0,
        })
    }
}

/// Whether a text can be the value of a label, and is not empty
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>).
pub(super) fn is_label_value(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outside = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.chars().all(inside)
        && text.starts_with(outside)
        && text.ends_with(outside)
}
