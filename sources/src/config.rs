//! What the operator says about sources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bindle::TrustedKey;
use crate::policy::Policy;
use crate::reference::Endpoint;
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
    /// The registry of `wapm:` references that name none.
    pub wapm: Wasmer,
    /// The server of `bindle:` references that name none, and whose signatures count.
    pub bindle: Bindle,
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
            wapm: Wasmer::default(),
            bindle: Bindle::default(),
            files: None,
            max_module_bytes: 256 << 20,
        }
    }
}

/// The Wasmer registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Wasmer {
    /// Its host, or the URL of its GraphQL API; without one, `registry.wasmer.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<Endpoint>,
}

/// Bindle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bindle {
    /// The server's host, or the URL of its API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Endpoint>,
    /// Keys, one of which must have signed a bindle; without any, signatures do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<TrustedKey>,
}
