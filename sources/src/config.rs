//! What the operator says about sources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::policy::Policy;
use crate::wkg::Registries;

/// How modules may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Hosts, `host` or `host:port`, that are spoken to in plain HTTP. Listing a host also allows it to be on this
    /// machine (a loopback address).
    pub insecure: Vec<String>,
    /// Certificate authorities in PEM, besides the machine's own.
    pub authorities: Vec<String>,
    /// Token servers, `host` or `host:port`, that may have any registry's credentials.
    pub trusted_realms: Vec<String>,
    /// Where else a registry's content is: tried in order, before the registry itself.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// What may run.
    pub policy: Policy,
    /// Which registry has which namespace of packages.
    pub wkg: Registries,
    /// The only directory that `file://` references may name. Without one, they are refused.
    pub files: Option<PathBuf>,
    /// The largest module, in bytes.
    pub max_module_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            authorities: Vec::new(),
            trusted_realms: Vec::new(),
            mirrors: BTreeMap::new(),
            policy: Policy::default(),
            wkg: Registries::default(),
            files: None,
            max_module_bytes: 256 << 20,
        }
    }
}
