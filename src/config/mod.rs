//! What the operator says: one YAML document, and the defaults for what it leaves out.
//!
//! Precedence: flag, environment, document, default. Flags and environment are the command line's affair ([`crate::cli`]); here is
//! the document; [`check`] has what its types cannot say. Unknown keys are errors. How the document may change is written in `docs/compatibility.md`.

mod agent;
mod cgroup;
mod check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use artifacts::ArtifactRepository;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sources::policy::Policy;
use sources::wkg::Registries;

use crate::pipeline::Bounds;
use crate::step::StepLimits;
use crate::text::config_reader::{self, DocumentError};
use crate::text::units::{ByteSize, Time};
use crate::text::yaml;

pub use agent::AgentSettings;
pub use check::log_filter;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// What steps may use.
    pub limits: Limits,
    /// How modules are fetched.
    pub sources: Sources,
    /// Where artifacts are kept.
    pub artifacts: Artifacts,
    /// Settings for the calls of Argo's agent.
    pub agent: AgentSettings,
    /// What is logged.
    pub telemetry: Telemetry,
}

/// `limits`: the default of every step, and the most that a template can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Steps that run at once.
    pub steps: u32,
    /// The linear memory of all steps that run at once. Steps for which there is none wait.
    pub steps_memory: ByteSize,
    /// A step's linear memory.
    pub memory: ByteSize,
    /// A step's time in the module.
    pub time: Time,
    /// A whole step's time: fetching, staging and running. A template's `timeout` can be less.
    pub whole: Time,
    /// A step's standard output, and separately its standard error.
    pub output: ByteSize,
    /// Blocks in a step's directory.
    pub disk: ByteSize,
    /// Files and directories in a step's directory.
    pub entries: u64,
    /// What must stay free where step directories are made.
    pub disk_free: ByteSize,
    /// A node's message.
    pub message: ByteSize,
    /// A node's `outputs.result`.
    pub result: ByteSize,
    /// One output parameter.
    pub parameter: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: cgroup::steps(),
            steps_memory: ByteSize(cgroup::steps_memory()),
            memory: ByteSize(512 << 20),
            time: Time(Duration::from_hours(1)),
            whole: Time(Duration::from_hours(2)),
            output: ByteSize(16 << 20),
            disk: ByteSize(1 << 30),
            entries: 100_000,
            disk_free: ByteSize(64 << 20),
            message: ByteSize(1 << 10),
            result: ByteSize(64 << 10),
            parameter: ByteSize(256 << 10),
        }
    }
}

/// `sources`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sources {
    /// Registries and web servers, `host` or `host:port`, that are spoken to in plain HTTP and may be on this cgroup.
    pub insecure: Vec<String>,
    /// Certificate authorities in PEM, besides the cgroup's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<String>,
    /// Token servers, `host` or `host:port`, that may have the credentials of registries on other hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_realms: Vec<String>,
    /// For a registry, others that may have its content: asked in order, before it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Credentials by host. They are not in this document: it says where they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<HostCredential>,
    /// What may run.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: Policy,
    /// Where packages of `wkg:` references are.
    #[serde(skip_serializing_if = "is_default")]
    pub wkg: Registries,
    /// Where packages of `wapm:` references are.
    #[serde(skip_serializing_if = "is_default")]
    pub wapm: sources::config::Wasmer,
    /// Where bindles are, and whose signatures on them count.
    #[serde(skip_serializing_if = "is_default")]
    pub bindle: sources::config::Bindle,
    /// The one directory that `file://` modules may be in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<PathBuf>,
    /// The largest module.
    pub max_module: ByteSize,
    /// The most bytes of fetched content that are kept. What was not used for longest goes first.
    pub max_store: ByteSize,
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
            files: None,
            max_module: ByteSize(256 << 20),
            max_store: ByteSize(2 << 30),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `sources.credentials[]`: a user with a password, or a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostCredential {
    /// `host[:port][/path]`, matched as the kubelet matches the keys of pull secrets.
    pub host: String,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Where the password is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretSource>,
    /// Where the token is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_from: Option<SecretSource>,
}

/// Where a secret is: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretSource {
    /// In an environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// In a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// `artifacts`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Artifacts {
    /// Where artifacts are that have a key alone, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<ArtifactRepository>,
    /// The namespace of Argo's controller: its `ConfigMap`s are looked at last, where the plugin may read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_namespace: Option<String>,
}

/// `telemetry`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// The log.
    pub log: Log,
}

/// `telemetry.log`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// One line of text, or one JSON object, for each event.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,wasmtime=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// `telemetry.log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file `{0}` cannot be read: {1}")]
    Read(PathBuf, #[source] std::io::Error),
    /// It is not YAML.
    #[error("the configuration in {0} is not YAML: {1}")]
    Yaml(String, String),
    /// It says something that cannot be.
    #[error("the configuration in {0}: {1}")]
    Invalid(String, #[source] DocumentError),
}

impl Config {
    /// Reads a file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        Self::from_text(&text, &format!("`{}`", path.display()))
    }

    /// Reads a text; `origin` says in errors where it is from.
    pub fn from_text(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let documents =
            yaml::documents(text).map_err(|error| ConfigError::Yaml(origin.to_owned(), error))?;
        let value = match documents.as_slice() {
            [] => &Value::Null,
            [document] => document,
            _ => {
                return Err(ConfigError::Yaml(
                    origin.to_owned(),
                    "more than one document".to_owned(),
                ));
            }
        };
        let config: Self = config_reader::read(value, "")
            .map_err(|error| ConfigError::Invalid(origin.to_owned(), error))?;
        check::check(&config).map_err(|error| ConfigError::Invalid(origin.to_owned(), error))?;
        Ok(config)
    }
}

impl Limits {
    /// Those of each step.
    pub fn step(&self) -> StepLimits {
        StepLimits {
            // More than all may have together would be the end of the container.
            memory: self.memory.0.min(self.steps_memory.0),
            time: self.time.0,
            output: self.output.0,
            disk: self.disk.0,
            entries: self.entries,
            // A part of it cannot be longer.
            whole: self.whole.0.max(self.time.0),
        }
    }

    /// Those of what a step reports.
    pub fn bounds(&self) -> Bounds {
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        Bounds {
            message: bytes(self.message),
            result: bytes(self.result),
            parameter: bytes(self.parameter),
            parameters: bytes(self.parameter),
        }
    }
}

impl Sources {
    /// For the library of sources.
    pub fn library(&self) -> sources::Config {
        sources::Config {
            insecure: self.insecure.clone(),
            authorities: self.ca.clone(),
            trusted_realms: self.trusted_realms.clone(),
            mirrors: self.mirrors.clone(),
            policy: self.policy.clone(),
            wkg: self.wkg.clone(),
            wapm: self.wapm.clone(),
            bindle: self.bindle.clone(),
            files: self.files.clone(),
            max_module_bytes: self.max_module.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_default() {
        assert_eq!(Config::from_text("", "x").unwrap(), Config::default());
        let config =
            Config::from_text("limits:\n  memory: 1Gi\n  steps: '4'\nsources:\n", "x").unwrap();
        assert_eq!(
            (config.limits.memory, config.limits.steps),
            (ByteSize(1 << 30), 4)
        );
        assert_eq!(config.limits.time, Limits::default().time);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let message = |text: &str| Config::from_text(text, "`c.yaml`").unwrap_err().to_string();
        assert_eq!(
            message("limits:\n  memroy: 1Gi\n"),
            "the configuration in `c.yaml`: `limits`: unknown key `memroy`; did you mean `memory`?"
        );
        assert!(message("limits: {steps: 0}").contains("`limits.steps`: must be between"));
        let s3 = |fields: &str| {
            message(&format!(
                "artifacts: {{repository: {{s3: {{endpoint: h, bucket: b, {fields}}}}}}}"
            ))
        };
        assert!(
            message("artifacts: {repository: {s3: {}}}")
                .contains("`s3` needs `endpoint` and `bucket`")
        );
        assert!(s3("region: eu.evil.com/").contains("cannot be a region"));
        let at = |endpoint: &str, bucket: &str| {
            message(&format!(
                "artifacts: {{repository: {{s3: {{endpoint: '{endpoint}', bucket: '{bucket}'}}}}}}"
            ))
        };
        assert!(
            at("https://s3.example.com", "b").contains("`endpoint` must be `host` or `host:port`")
        );
        assert!(at("h", "a/b").contains("cannot be a bucket's name"));
        assert!(
            message("artifacts: {repository: {archiveLogs: true}}").contains("it names no place")
        );
        assert!(
            message("artifacts: {repository: {gcs: {bucket: b}}}")
                .contains("storage.googleapis.com")
        );
        assert!(
            message("artifacts: {repository: {s3: {buckt: b}}}").contains("did you mean `bucket`?")
        );
        assert!(message("limits: [").contains("is not YAML"));
        let cases = [
            (
                "limits: {memory: 100}",
                "`limits.memory`: must be at least 64Ki",
            ),
            ("limits: {time: 0}", "`limits.time`: must be more than 0"),
            (
                "sources: {insecure: ['http://h:1']}",
                "`sources.insecure[0]`: `http://h:1` must be a host, `host` or `host:port`",
            ),
            (
                "sources: {mirrors: {'https://ghcr.io': [m]}}",
                "`sources.mirrors`: `https://ghcr.io` must be a host",
            ),
            (
                "sources: {mirrors: {index.docker.io: [m]}}",
                "`sources.mirrors`: `index.docker.io` is written `docker.io`",
            ),
            (
                "sources: {insecure: ['*.corp']}",
                "`sources.insecure[0]`: `*.corp` must be a host",
            ),
            (
                "sources: {insecure: ['::1']}",
                "`sources.insecure[0]`: `::1` must be a host",
            ),
            (
                "sources: {policy: {deny: ['oci://GHCR.io:443/*']}}",
                "this registry is written `oci://ghcr.io/*`",
            ),
            (
                "sources: {mirrors: {ghcr.io: [m, m/path]}}",
                "`sources.mirrors.ghcr.io[1]`: `m/path` must be a host",
            ),
            (
                "sources: {trustedRealms: ['']}",
                "`sources.trustedRealms[0]`: `` must be a host",
            ),
            (
                "sources: {policy: {hosts: ['https://*']}}",
                "`sources.policy.hosts[0]`: `https://*` must be a host",
            ),
            (
                "sources: {policy: {allow: [ghcr.io/*]}}",
                "`sources.policy.allow[0]`: `ghcr.io/*` matches no reference",
            ),
            (
                "sources: {wkg: {default: 'https://wasi.dev'}}",
                "`sources.wkg.default`: `https://wasi.dev` must be a host",
            ),
            (
                "artifacts: {repository: {directory: {path: a}}}",
                "`artifacts.repository.directory.path`: must be an absolute path",
            ),
        ];
        for (text, expected) in cases {
            assert!(
                message(text).contains(expected),
                "{text}: {}",
                message(text)
            );
        }
        Config::from_text(
            "sources: {policy: {allow: ['*', '*/acme/*', 'wkg:acme:*', 'o*'], hosts: ['*.example.com:443']}, insecure: ['[::1]:5000', 'h:1', 10.0.0.1]}",
            "x",
        )
        .unwrap();
    }

    #[test]
    fn what_is_printed_reads_back() {
        let text = "artifacts: {repository: {directory: {path: /a}}}\nsources: {insecure: ['h:1'], files: /m}\n";
        let config = Config::from_text(text, "x").unwrap();
        let printed = serde_json::to_string(&config).unwrap();
        assert_eq!(Config::from_text(&printed, "x").unwrap(), config);
    }
}
