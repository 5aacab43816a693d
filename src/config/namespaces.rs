//! The section `namespaces`: rules for the steps of some namespaces.
//!
//! These rules are added to the rules for all namespaces. They never allow more.

use serde::{Deserialize, Serialize};
use sources::policy::{ModuleRules, NamespacePolicy};

use super::limits::Limits;
use crate::text::units::{ByteSize, Time};

/// `namespaces[]`: rules for the steps of the namespaces that match `names`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespaceSettings {
    /// Patterns of the names of the namespaces. The first entry that matches a namespace is used.
    pub names: Vec<String>,
    /// Which modules may run.
    #[serde(skip_serializing_if = "is_default")]
    pub modules: ModuleRules,
    /// Patterns of the hosts that modules, artifacts and `http` templates may be at. An empty list
    /// allows all hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Limits of each step. Only values below those for all namespaces have an effect.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: NamespaceLimits,
}

/// `namespaces[].limits`: the keys of `limits` that a namespace can have. A higher value than the
/// one in `limits` has no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespaceLimits {
    /// Memory of the module, with its tables and the host's memory for its calls and handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Running time of the module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Time of all stages together, without the time in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Time>,
    /// Size of standard output, and separately of standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<ByteSize>,
    /// Disk space of the step's directory, in allocated blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    /// Number of files and directories in the step's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
}

impl NamespaceSettings {
    /// The rules for modules.
    pub(super) fn policy(&self) -> NamespacePolicy {
        NamespacePolicy {
            names: self.names.clone(),
            modules: self.modules.clone(),
            hosts: self.hosts.clone(),
        }
    }
}

impl NamespaceLimits {
    /// For each key, the lower limit.
    pub(super) fn lower(&self, all: &Limits) -> Limits {
        let own = *self;
        let total = lowest(all.total, own.total);
        Limits {
            memory: lowest(all.memory, own.memory),
            // The running time is a part of the total time.
            time: lowest(all.time, own.time).min(total),
            total,
            output: lowest(all.output, own.output),
            disk: lowest(all.disk, own.disk),
            entries: lowest(all.entries, own.entries),
            ..*all
        }
    }
}

fn lowest<T: Ord>(all: T, own: Option<T>) -> T {
    match own {
        Some(own) => own.min(all),
        None => all,
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
