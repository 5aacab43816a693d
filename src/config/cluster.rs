//! `cluster`: settings of `serve --cluster`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::units::Time;

/// `cluster`: settings of `serve --cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// Time after which Argo's controller reads results. The controller has it in the variable
    /// `DEFAULT_REQUEUE_TIME`.
    pub requeue_time: Time,
    /// Time after which other replicas take the Workflows of a replica that does not renew its
    /// Lease.
    pub lease_duration: Time,
    /// Longest time for which running steps continue after SIGTERM.
    pub drain_time: Time,
    /// Name of the service account with whose rights Secrets and `ConfigMaps` are read, in the
    /// namespace of each workflow.
    pub tenant_account: String,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            requeue_time: Time(Duration::from_secs(10)),
            lease_duration: Time(Duration::from_secs(45)),
            drain_time: Time(Duration::from_mins(2)),
            tenant_account: "wasm-executor-plugin".to_owned(),
        }
    }
}
