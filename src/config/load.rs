//! Reading a configuration document.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::document::Config;
use super::{check, renamed};
use crate::text::DocumentError;
use crate::text::config_reader;
use crate::text::yaml::{self, YamlError};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file `{}` cannot be read: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The text is not YAML.
    #[error("the configuration in {origin} is not YAML: {source}")]
    Yaml {
        /// Where the text is from.
        origin: String,
        /// The error of the parser.
        source: YamlError,
    },
    /// The text has several YAML documents.
    #[error("the configuration in {0} has more than one YAML document; write one document")]
    SeveralDocuments(String),
    /// A key or a value is wrong.
    #[error("the configuration in {origin}: {source}")]
    Invalid {
        /// Where the text is from.
        origin: String,
        /// The key, and what is wrong with it.
        source: DocumentError,
    },
}

impl Config {
    /// Reads the document in a file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = Self::text_of(path)?;
        Self::from_text(&text, &format!("`{}`", path.display()))
    }

    /// The text of a file. The file may be a pipe, which can be read only once.
    pub fn text_of(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a document. Errors name `origin` as the place of the text.
    pub fn from_text(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let origin = || origin.to_owned();
        let documents = yaml::documents(text).map_err(|source| ConfigError::Yaml {
            origin: origin(),
            source,
        })?;
        let document = match documents.as_slice() {
            [] => &Value::Null,
            [document] => document,
            _ => return Err(ConfigError::SeveralDocuments(origin())),
        };
        read(document).map_err(|source| ConfigError::Invalid {
            origin: origin(),
            source,
        })
    }
}

fn read(document: &Value) -> Result<Config, DocumentError> {
    renamed::check(document)?;
    let config = config_reader::read(document, "")?;
    check::check(&config)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::text::units::ByteSize;

    fn message(text: &str) -> String {
        Config::from_text(text, "`c.yaml`").unwrap_err().to_string()
    }

    #[test]
    fn omitted_keys_have_their_defaults() {
        assert_eq!(Config::from_text("", "x").unwrap(), Config::default());
        let text = "capacity:\n  steps: '4'\nlimits:\n  memory: 1Gi\nsources:\n";
        let config = Config::from_text(text, "x").unwrap();
        assert_eq!(config.limits.memory, ByteSize(1 << 30));
        assert_eq!(config.capacity.steps, 4);
        assert_eq!(config.limits.time, Limits::default().time);
    }

    #[test]
    fn errors_name_the_key_and_the_origin() {
        assert_eq!(
            message("limits:\n  memroy: 1Gi\n"),
            "the configuration in `c.yaml`: `limits`: unknown key `memroy`; did you mean `memory`?"
        );
        assert!(message("limits: [").contains("is not YAML"));
        assert!(message("a: 1\n---\nb: 1\n").contains("more than one YAML document"));
    }

    #[test]
    fn an_old_key_is_an_error_that_names_the_new_key() {
        assert_eq!(
            message("limits: {whole: 1h}"),
            "the configuration in `c.yaml`: `limits.whole` is now `limits.total`"
        );
    }

    #[test]
    fn unusable_artifact_repositories_are_errors() {
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
            message("artifacts: {repository: {archiveLogs: true}}")
                .contains("the key `s3` or `directory` is missing")
        );
        assert!(
            message("artifacts: {repository: {gcs: {bucket: b}}}")
                .contains("storage.googleapis.com")
        );
        assert!(
            message("artifacts: {repository: {s3: {buckt: b}}}").contains("did you mean `bucket`?")
        );
    }

    fn assert_unusable(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let message = message(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn unusable_values_are_errors() {
        assert_unusable(&[
            (
                "capacity: {steps: 0}",
                "`capacity.steps`: must be between 1 and 1024",
            ),
            (
                "capacity: {memory: 1Ki}",
                "`capacity.memory`: must be at least 64Ki",
            ),
            (
                "limits: {memory: 100}",
                "`limits.memory`: must be at least 64Ki",
            ),
            (
                "limits: {compile: {memory: 63Mi}}",
                "`limits.compile.memory`: must be at least 64Mi, the least that the compiler needs",
            ),
            (
                "capacity: {compileMemory: 63Mi}",
                "`capacity.compileMemory`: must be at least 64Mi, the least that the compiler needs",
            ),
            ("limits: {time: 0}", "`limits.time`: must be more than 0"),
            ("agent: {wait: 21s}", "`agent.wait`: must be at most 20s"),
            (
                "agent: {workflowPollInterval: 0}",
                "`agent.workflowPollInterval`: must be more than 0",
            ),
            (
                "agent: {patchRate: 0}",
                "`agent.patchRate`: must be more than 0",
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
                "sources: {fileRoot: modules}",
                "`sources.fileRoot`: must be an absolute path",
            ),
            (
                "sources: {maxStoreSize: 1Gi, maxModuleSize: 1Gi}",
                "`sources.maxStoreSize`: must be at least four times `sources.maxModuleSize`",
            ),
            (
                "artifacts: {repository: {directory: {path: a}}}",
                "`artifacts.repository.directory.path`: must be an absolute path",
            ),
            (
                "telemetry: {log: {level: loud}}",
                "`telemetry.log.level`: `loud` is not a log level",
            ),
        ]);
    }

    #[test]
    fn unusable_hosts_are_errors() {
        assert_unusable(&[
            (
                "sources: {insecure: ['http://h:1']}",
                "`sources.insecure[0]`: `http://h:1` must be a host with an optional port",
            ),
            (
                "sources: {mirrors: {'https://ghcr.io': [m]}}",
                "`sources.mirrors`: `https://ghcr.io` must be a host",
            ),
            (
                "sources: {mirrors: {index.docker.io: [m]}}",
                "`sources.mirrors`: `index.docker.io` must be written as `docker.io`",
            ),
            (
                "sources: {insecure: ['*.corp']}",
                "`sources.insecure[0]`: `*.corp` must be a host",
            ),
            (
                "sources: {insecure: ['::1']}",
                "`sources.insecure[0]`: `::1` is not a host: an IPv6 address must be in brackets",
            ),
            (
                "sources: {mirrors: {ghcr.io: ['::1']}}",
                "`sources.mirrors.ghcr.io[0]`: `::1` is not a host: an IPv6 address must be in \
                 brackets",
            ),
            (
                "sources: {mirrors: {ghcr.io: ['https://m']}}",
                "`sources.mirrors.ghcr.io[0]`: `https://m` must be a host",
            ),
            (
                "sources: {mirrors: {ghcr.io: ['Harbor.example/a']}}",
                "`Harbor.example/a` must be written as `harbor.example/a`",
            ),
            (
                "sources: {credentials: [{host: '::1/a', username: u, passwordFrom: {env: HOME}}]}",
                "`sources.credentials[0].host`: `::1/a` is not a host: an IPv6 address must be in \
                 brackets",
            ),
            (
                "sources: {credentials: [{host: 'h:99999', username: u, passwordFrom: {env: HOME}}]}",
                "`h:99999` is not a host: its port must be a number up to 65535",
            ),
            (
                "sources: {credentials: [{host: 'https://h', username: u, passwordFrom: {env: HOME}}]}",
                "`https://h` must be a host with an optional port and an optional path",
            ),
            (
                "sources: {policy: {hosts: ['::1']}}",
                "`sources.policy.hosts[0]`: `::1` is not a host: an IPv6 address must be in brackets",
            ),
            (
                "sources: {insecure: ['[fe80::1%eth0]:5000']}",
                "an IPv6 address must not have a zone",
            ),
            (
                "sources: {insecure: ['[0::1]:5000']}",
                "must be written as `[::1]:5000`",
            ),
            (
                "sources: {policy: {allow: ['oci://[0::1]:5000/*']}}",
                "write this registry as `oci://[::1]:5000/*`",
            ),
            (
                "sources: {policy: {allow: ['oci://[fe80::1%eth0]/*']}}",
                "an IPv6 address must not have a zone",
            ),
            (
                "sources: {policy: {deny: ['oci://GHCR.io:443/*']}}",
                "write this registry as `oci://ghcr.io/*`",
            ),
            (
                "sources: {mirrors: {ghcr.io: [m, m/path, m/Path]}}",
                "`sources.mirrors.ghcr.io[2]`: `m/Path` must be a host with an optional port and an \
                 optional path in lower case",
            ),
            (
                "sources: {mirrors: {ghcr.io: [m/../x]}}",
                "`sources.mirrors.ghcr.io[0]`: `m/../x` must be a host",
            ),
            (
                "sources: {mirrors: {ghcr.io: [m/v2/proxy]}}",
                "`m/v2/proxy` must not name `v2`",
            ),
            (
                "sources: {mirrors: {'[0::1]:5000': [m]}}",
                "`sources.mirrors`: `[0::1]:5000` must be written as `[::1]:5000`",
            ),
            (
                "sources: {trustedRealms: ['']}",
                "`sources.trustedRealms[0]`: `` must be a host",
            ),
            (
                "sources: {policy: {hosts: ['https://*']}}",
                "`sources.policy.hosts[0]`: `https://*` must be a host",
            ),
        ]);
    }

    #[test]
    fn patterns_and_addresses_are_allowed_where_they_work() {
        let text = "sources: {policy: {allow: ['*', '*/acme/*', 'wkg:acme:*', 'o*', 'oci://[::1]:5000/a*'], \
                    hosts: ['*.example.com:443']}, insecure: ['[::1]:5000', 'h:1', 10.0.0.1], \
                    mirrors: {docker.io: ['harbor.example:8443/proxy/hub', '[::1]:5000/a_b']}, \
                    trustedRealms: ['[::1]:5001'], wkg: {default: '[::1]:5000'}, \
                    wapm: {registry: '[::1]:8080'}, bindle: {server: '[::1]:8081/v1'}, \
                    credentials: [{host: '[::1]:5000/a', username: u, passwordFrom: {env: HOME}}]}";
        Config::from_text(text, "x").unwrap();
    }

    #[test]
    fn a_printed_configuration_reads_back_as_the_same() {
        let text = "artifacts: {repository: {directory: {path: /a}}}\n\
                    sources: {insecure: ['h:1'], fileRoot: /m}\n";
        let config = Config::from_text(text, "x").unwrap();
        let printed = serde_json::to_string(&config).unwrap();
        assert_eq!(Config::from_text(&printed, "x").unwrap(), config);
    }
}
