//! The section `sources`: how modules are fetched, and which modules may run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sources::policy::Policy;
use sources::wkg::Registries;

use super::namespaces::NamespaceSettings;
use crate::text::units::ByteSize;

/// `sources`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sources {
    /// Registries and web servers, as `host` or `host:port`, that the executor contacts in plain
    /// HTTP. Their addresses may be on this machine.
    pub insecure: Vec<String>,
    /// Certificate authorities in PEM, in addition to those of the operating system.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<String>,
    /// Token servers, as `host` or `host:port`, that may receive the credentials of registries on
    /// other hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_realms: Vec<String>,
    /// Mirrors of each registry, in the order in which they are tried. The registry itself is
    /// tried last. A mirror is `host` or `host:port`, optionally with a path that comes before the
    /// names of repositories.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Credentials for hosts. The document contains the places of the secrets, not their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<HostCredential>,
    /// Which modules may run.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: Policy,
    /// Registries of the packages that `wkg:` references name.
    #[serde(skip_serializing_if = "is_default")]
    pub wkg: Registries,
    /// Registry of the packages that `wapm:` references name.
    #[serde(skip_serializing_if = "is_default")]
    pub wapm: sources::config::Wasmer,
    /// Server of bindles, and the keys that verify their signatures.
    #[serde(skip_serializing_if = "is_default")]
    pub bindle: sources::config::Bindle,
    /// The only directory that `file://` references may name files in. Without it, a server
    /// refuses these references.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_root: Option<PathBuf>,
    /// Size of the largest module.
    pub max_module_size: ByteSize,
    /// Size of all fetched content on disk. The least recently used content is removed first.
    pub max_store_size: ByteSize,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            ca: Vec::new(),
            trusted_realms: Vec::new(),
            mirrors: BTreeMap::new(),
            credentials: Vec::new(),
            policy: Policy::default(),
            wkg: Registries::default(),
            wapm: sources::config::Wasmer::default(),
            bindle: sources::config::Bindle::default(),
            file_root: None,
            max_module_size: ByteSize(256 << 20),
            max_store_size: ByteSize(2 << 30),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `sources.credentials[]`: a user with a password, or a token, for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostCredential {
    /// `host[:port][/path]`, matched as the kubelet matches the keys of pull secrets.
    pub host: String,
    /// Name of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Where the password is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretSource>,
    /// Where the token is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_from: Option<SecretSource>,
}

/// The place of a secret value: exactly one of the two keys is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretSource {
    /// Name of an environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Path of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Sources {
    /// The same settings in the form that the `sources` crate takes, with the rules of single
    /// namespaces.
    pub fn library(&self, namespaces: &[NamespaceSettings]) -> sources::Config {
        sources::Config {
            insecure: self.insecure.clone(),
            ca: self.ca.clone(),
            trusted_realms: self.trusted_realms.clone(),
            mirrors: self.mirrors.clone(),
            policy: self.policy.clone(),
            namespaces: namespaces.iter().map(NamespaceSettings::policy).collect(),
            wkg: self.wkg.clone(),
            wapm: self.wapm.clone(),
            bindle: self.bindle.clone(),
            file_root: self.file_root.clone(),
            max_module_size: self.max_module_size.0,
        }
    }
}
