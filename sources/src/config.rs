//! What the operator says about sources.

use std::path::PathBuf;

/// How modules may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Hosts, `host` or `host:port`, that are spoken to in plain HTTP. Listing a host also allows it to be on this
    /// machine (a loopback address).
    pub insecure: Vec<String>,
    /// The only directory that `file://` references may name. Without one, they are refused.
    pub files: Option<PathBuf>,
    /// The largest module, in bytes.
    pub max_module_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { insecure: Vec::new(), files: None, max_module_bytes: 256 << 20 }
    }
}
