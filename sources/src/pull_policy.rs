//! When the origin of a module is asked.

use serde::{Deserialize, Serialize};

use crate::Reference;

/// When to ask the origin, as Kubernetes' `imagePullPolicy` means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask each time what the reference names now. Content that is here already is not downloaded again.
    Always,
    /// Ask only when the reference is not in the store.
    IfNotPresent,
    /// Never ask: the store alone.
    Never,
}

impl PullPolicy {
    /// Kubernetes' default: `Always` for the tag `latest` or none, and what else may change from one day to the next; else `IfNotPresent`.
    pub fn default_for(reference: &Reference) -> Self {
        match reference {
            Reference::Oci(oci)
                if oci.digest().is_none() && matches!(oci.tag(), None | Some("latest")) =>
            {
                Self::Always
            }
            Reference::Wkg(package) if package.version().is_none() => Self::Always,
            Reference::Wasmer(package)
                if package.version().is_none() && package.digest().is_none() =>
            {
                Self::Always
            }
            // Nothing says that it is the same tomorrow: the server is asked whether it changed.
            Reference::Http(http) if http.digest().is_none() => Self::Always,
            _ => Self::IfNotPresent,
        }
    }
}
