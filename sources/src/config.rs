//! The operator's configuration of the sources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bindle::TrustedKey;
use crate::policy::{NamespacePolicy, Policy};
use crate::reference::Endpoint;
use crate::wkg::Registries;

/// The configuration of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Hosts, `host` or `host:port`, to which plain HTTP is used. A listed host may also have a
    /// loopback address (this machine).
    pub insecure: Vec<String>,
    /// Certificate authorities in PEM, in addition to those of the machine.
    pub ca: Vec<String>,
    /// Token servers, `host` or `host:port`, that may receive the credentials of any registry.
    pub trusted_realms: Vec<String>,
    /// The mirrors of each registry. They are tried in order, before the registry itself. A mirror
    /// is `host` or `host:port`, optionally with a path that comes before the names of
    /// repositories: the proxy cache projects of Harbor have such a path.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// The rules for modules that may run.
    pub policy: Policy,
    /// More rules, for the modules of some namespaces. The first entry that matches is used.
    pub namespaces: Vec<NamespacePolicy>,
    /// The registries of `wkg:` packages, by namespace.
    pub wkg: Registries,
    /// The registry for `wapm:` references without a registry.
    pub wapm: Wasmer,
    /// The server for `bindle:` references without a server, and the trusted keys.
    pub bindle: Bindle,
    /// The directory that `file://` references may read from. `None` refuses all `file://`
    /// references.
    pub file_root: Option<PathBuf>,
    /// The largest size of a module, in bytes.
    pub max_module_size: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            ca: Vec::new(),
            trusted_realms: Vec::new(),
            mirrors: BTreeMap::new(),
            policy: Policy::default(),
            namespaces: Vec::new(),
            wkg: Registries::default(),
            wapm: Wasmer::default(),
            bindle: Bindle::default(),
            file_root: None,
            max_module_size: 256 << 20,
        }
    }
}

/// The default Wasmer registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Wasmer {
    /// The host of the registry, or the URL of its GraphQL API. Default: `registry.wasmer.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<Endpoint>,
}

/// The default Bindle server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bindle {
    /// The host of the server, or the URL of its API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Endpoint>,
    /// Trusted keys. A bindle must be signed with one of them. Without keys, signatures are not
    /// verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<TrustedKey>,
}
