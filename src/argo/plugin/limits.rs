//! The key `limits`: limits of the module, below those of the operator.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::step::StepLimits;
use crate::text::units::{ByteSize, Time};

/// `limits`. For a limit that is not set, the operator's limit applies.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::argo) struct RequestedLimits {
    /// Linear memory of the module.
    memory: Option<ByteSize>,
    /// Running time of the module.
    time: Option<Time>,
    /// Size of standard output, and separately of standard error.
    output: Option<ByteSize>,
    /// Disk space of the step's directory.
    disk: Option<ByteSize>,
}

impl RequestedLimits {
    /// A limit that is 0, although no module can run with it.
    pub(super) fn zero(&self) -> Option<&'static str> {
        let no_memory = self.memory.is_some_and(|memory| memory.0 == 0);
        let no_time = self.time.is_some_and(|time| time.0.is_zero());
        match (no_memory, no_time) {
            (true, _) => Some("memory"),
            (false, true) => Some("time"),
            (false, false) => None,
        }
    }

    /// For each limit, the lower of the template's and the operator's.
    pub(in crate::argo) fn lowest(&self, operator: &StepLimits) -> StepLimits {
        let lower = |requested: Option<ByteSize>, limit: u64| {
            requested.map_or(limit, |requested| requested.0.min(limit))
        };
        StepLimits {
            memory: lower(self.memory, operator.memory),
            time: self
                .time
                .map_or(operator.time, |time| time.0.min(operator.time)),
            output: lower(self.output, operator.output),
            disk: lower(self.disk, operator.disk),
            ..*operator
        }
    }
}
