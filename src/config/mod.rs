//! The operator's configuration: one YAML document, and a default for each key that it omits.
//!
//! | file | contents |
//! |---|---|
//! | `document` | [`Config`], the whole document |
//! | `load` | reading a document from a file or a text |
//! | `limits`, `module_sources`, `artifact_stores`, `agent`, `cluster`, `namespaces`, `log` | the types of the sections |
//! | `namespace_rules` | what a namespace may use |
//! | `check`, `check_sources`, `check_namespaces` | rules that the types cannot express |
//! | `renamed` | keys that are no longer used, or not used yet |
//! | `cgroup` | the default capacity, from the cores and the memory of the container |
//!
//! A flag overrides an environment variable, which overrides the document, which overrides the
//! default. This folder reads the document only; the command line applies the other two.
//! `docs/compatibility.md` says how the document may change between versions.

mod agent;
mod artifact_stores;
mod cgroup;
mod check;
mod check_namespaces;
mod check_sources;
mod cluster;
mod document;
mod limits;
mod load;
mod log;
mod module_sources;
mod namespace_rules;
mod namespaces;
mod renamed;

pub use agent::AgentSettings;
pub use artifact_stores::Artifacts;
pub use cluster::ClusterSettings;
pub use document::Config;
pub use limits::{Capacity, Limits};
pub use load::ConfigError;
pub use log::{Log, LogFilterError, LogFormat, Telemetry};
pub use module_sources::{HostCredential, SecretSource, Sources};
pub use namespace_rules::NamespaceRules;
pub use namespaces::{NamespaceLimits, NamespaceSettings};
