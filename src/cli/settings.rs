//! Flags that several commands share, and what comes of them: flag, environment, document, default, in this order.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifacts::{ArtifactRepository, OperatorBucket, Stores};
use clap::Args;
use net::is_host;
use sources::reference::FileReference;
use sources::source::SharedProgress;
use sources::store::Store;
use sources::{Reference, Sources};

use super::{Exit, Failure};
use crate::app::artifact_host::Surroundings;
use crate::app::credentials::Credentials;
use crate::config::{Config, LogFormat};
use crate::kubernetes::Kubernetes;
use crate::pipeline::Settings;
use crate::runtime::Capacity;
use crate::telemetry;
use crate::text::{config_reader, yaml};

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// The configuration file; its text may be in WASM_WORKFLOW_CONFIG instead
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_CONFIG_FILE")]
    pub(super) config: Option<PathBuf>,
    /// A registry or web server to speak plain HTTP to, and that may be on this machine; repeatable
    #[arg(long, value_name = "HOST[:PORT]", env = "WASM_WORKFLOW_INSECURE_REGISTRY", value_delimiter = ',', value_parser = host)]
    insecure_registry: Vec<String>,
    /// Read Secrets as this kubeconfig file says [default: as the pod's service account, in a cluster]
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Where fetched modules are kept
    #[arg(long, value_name = "DIR", env = "WASM_WORKFLOW_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Where compiled code is kept: must be private to this user [default: `code` in the cache directory]
    #[arg(long, value_name = "DIR", env = "WASM_WORKFLOW_CODE_DIR")]
    code_dir: Option<PathBuf>,
    /// Where steps' directories are made
    #[arg(long, value_name = "DIR", env = "WASM_WORKFLOW_SCRATCH_DIR")]
    scratch_dir: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "LEVEL", env = "WASM_WORKFLOW_LOG_LEVEL")]
    log_level: Option<String>,
    /// Where artifacts are that name no place: a file with a repository as Argo writes it, in place of `artifacts.repository` of the configuration
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_ARTIFACT_REPOSITORY")]
    pub(super) artifact_repository: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "WASM_WORKFLOW_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// A repository, alone in its file.
fn repository(file: &Path) -> Result<ArtifactRepository, Failure> {
    let at = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!(
            "--artifact-repository `{at}` cannot be read: {error}"
        ))
    })?;
    let failed = |error: String| Failure::usage(format!("--artifact-repository `{at}`: {error}"));
    let documents = yaml::documents(&text).map_err(|error| failed(error.to_string()))?;
    let [document] = documents.as_slice() else {
        return Err(failed("it must be one YAML document".to_owned()));
    };
    let repository: ArtifactRepository =
        config_reader::read(document, "").map_err(|error| failed(error.to_string()))?;
    match repository.destination() {
        Ok(Some(_)) => Ok(repository),
        Ok(None) => Err(failed(
            "it names no place: it needs `s3` or `directory`".to_owned(),
        )),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn host(text: &str) -> Result<String, String> {
    // An empty variable, or a comma at its end, names none.
    match text.is_empty() || is_host(text) {
        true => Ok(text.to_owned()),
        false => Err("it must be a host, `host` or `host:port`".to_owned()),
    }
}

/// Where things are kept on this machine.
#[derive(Clone, Debug)]
pub(super) struct Directories {
    pub(super) cache: PathBuf,
    pub(super) code: PathBuf,
    pub(super) scratch: PathBuf,
}

impl Common {
    /// The configuration in force, and the log as it says; at the level `quiet`, if there is one, unless a level was asked for.
    pub(super) fn start(&self, quiet: Option<&str>) -> Result<Config, Failure> {
        let config = self.load()?;
        let mut log = config.telemetry.log.clone();
        if let (Some(quiet), None) = (quiet, &self.log_level) {
            quiet.clone_into(&mut log.level);
        }
        telemetry::start(&log).map_err(Failure::usage)?;
        Ok(config)
    }

    /// The configuration in force.
    fn load(&self) -> Result<Config, Failure> {
        let text = env::var("WASM_WORKFLOW_CONFIG").ok();
        let config = match (&self.config, text) {
            (Some(file), _) => Config::from_file(file),
            (None, Some(text)) => Config::from_text(&text, "WASM_WORKFLOW_CONFIG"),
            (None, None) => Ok(Config::default()),
        };
        let mut config = config.map_err(Failure::usage)?;
        if !self.insecure_registry.is_empty() {
            let listed = self
                .insecure_registry
                .iter()
                .filter(|host| !host.is_empty());
            config.sources.insecure = listed.cloned().collect();
        }
        if let Some(level) = &self.log_level {
            config.telemetry.log.level.clone_from(level);
            config
                .telemetry
                .log
                .filter()
                .map_err(|error| Failure::usage(format!("--log-level: {error}")))?;
        }
        if let Some(file) = &self.artifact_repository {
            config.artifacts.repository = Some(repository(file)?);
        }
        if let Some(format) = self.log_format {
            config.telemetry.log.format = format;
        }
        Ok(config)
    }

    /// Access to the Kubernetes API, where there is any.
    pub(super) async fn kubernetes(&self) -> Result<Option<Kubernetes>, Failure> {
        match &self.kubeconfig {
            Some(file) => Kubernetes::from_kubeconfig(file)
                .await
                .map(Some)
                .map_err(Failure::usage),
            None => Kubernetes::in_cluster().map_err(Failure::error),
        }
    }

    /// The sources over the store in the cache directory. Only on a person's own machine are all files, and that person's logins, open.
    pub(super) fn sources(
        &self,
        config: &Config,
        directories: &Directories,
        kubernetes: Option<Kubernetes>,
        personal: bool,
        progress: SharedProgress,
    ) -> Result<Sources, Failure> {
        let invalid = |error: sources::Error| {
            let (kind, failure) = (error.kind(), Failure::from(error));
            match kind {
                sources::ErrorKind::InvalidConfig if failure.message.starts_with("`sources.") => {
                    Failure {
                        hint: failure.hint.clone(),
                        ..Failure::usage(format!(
                            "the configuration in {}: {}",
                            self.origin(),
                            failure.message
                        ))
                    }
                }
                sources::ErrorKind::InvalidConfig => Failure {
                    exit: Exit::Usage,
                    ..failure
                },
                _ => failure,
            }
        };
        let credentials = Credentials::load(&config.sources.credentials, kubernetes, personal)
            .map_err(invalid)?;
        let store = directories.store(config);
        Sources::new(
            &config.sources.library(),
            store,
            credentials,
            personal,
            progress,
        )
        .map_err(invalid)
    }

    /// The artifact stores. The operator's own may be on this machine.
    pub(super) fn stores(config: &Config, kubernetes: Option<Kubernetes>) -> Stores {
        let own = config
            .artifacts
            .repository
            .as_ref()
            .and_then(|repository| repository.s3.as_ref());
        let own = own.map(|s3| OperatorBucket {
            endpoint: s3.endpoint.clone(),
            bucket: s3.bucket.clone(),
        });
        let machine = config
            .sources
            .insecure
            .iter()
            .cloned()
            .chain(own.iter().map(|own| own.endpoint.clone()));
        Stores::new(
            Arc::new(Surroundings::new(
                kubernetes,
                machine,
                config.sources.ca.clone(),
            )),
            own,
        )
    }

    /// Where the configuration is from.
    fn origin(&self) -> String {
        match &self.config {
            Some(file) => format!("`{}`", file.display()),
            None => "WASM_WORKFLOW_CONFIG".to_owned(),
        }
    }

    /// The directories: a server's below the temporary directory, a person's in the cache of the home directory.
    pub(super) fn directories(&self, server: bool) -> Result<Directories, Failure> {
        let default = match (server, personal_cache()) {
            (false, Some(cache)) => cache.join("wasm-workflow-executor"),
            _ => env::temp_dir().join("wasm-workflow-executor"),
        };
        if self.cache_dir.is_none() || self.scratch_dir.is_none() {
            make_private(&default)?;
        }
        let cache = self
            .cache_dir
            .clone()
            .unwrap_or_else(|| default.join("cache"));
        let code = self.code_dir.clone().unwrap_or_else(|| cache.join("code"));
        let scratch = self
            .scratch_dir
            .clone()
            .unwrap_or_else(|| default.join("scratch"));
        Ok(Directories {
            cache,
            code,
            scratch,
        })
    }
}

/// Makes the directory, and refuses one that somebody else made or can enter: machine code and steps' files will be in it.
fn make_private(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| directory.symlink_metadata());
    let metadata = made.map_err(|error| {
        Failure::error(format!("`{}` cannot be made: {error}", directory.display()))
    })?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let message = format!(
        "`{}` must be a directory of this user that is closed to others (mode 0700)",
        directory.display()
    );
    Err(Failure::error(format!(
        "{message}\nhint: mend it, or choose others with --cache-dir and --scratch-dir"
    )))
}

fn personal_cache() -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME").or_else(|| {
        absolute("HOME")
            .filter(|home| home != Path::new("/"))
            .map(|home| home.join(".cache"))
    })
}

impl Directories {
    /// The store, as large as configured.
    pub(super) fn store(&self, config: &Config) -> Store {
        Store::new(&self.cache).bounded(config.sources.max_store_size.0)
    }

    /// What the executor needs to know.
    pub(super) fn settings(&self, config: &Config, steps: u32) -> Settings {
        Settings {
            capacity: Capacity {
                steps,
                memory: config.capacity.memory.0,
            },
            scratch: self.scratch.clone(),
            code: Some(self.code.clone()),
            disk_free: config.capacity.min_free_disk.0,
            outputs: config.limits.outputs(),
        }
    }
}

/// A module on the command line: a URI, a file that is there, or an OCI reference.
pub(super) fn reference(text: &str) -> Result<Reference, Failure> {
    let is_wasm_file = Path::new(text)
        .extension()
        .is_some_and(|extension| extension == "wasm");
    let looks_like_path = text.starts_with(['.', '/']) || (!text.contains(':') && is_wasm_file);
    if !text.contains("://") && (looks_like_path || Path::new(text).is_file()) {
        let path = std::path::absolute(text)
            .map_err(|error| Failure::usage(format!("`{text}`: {error}")))?;
        if !path.exists() {
            return Err(Failure::usage(format!("there is no file `{text}`")));
        }
        return Ok(FileReference::new(path).into());
    }
    let registry = text
        .split_once('/')
        .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
    if !text.contains(':') && !registry {
        return Err(Failure::usage(format!(
            "there is no file `{text}`\nhint: a module in a registry is HOST/REPOSITORY:TAG, on Docker Hub docker.io/{text}"
        )));
    }
    text.parse()
        .map_err(|error: sources::Error| match error.remedy() {
            Some(hint) => Failure::usage(format!("{error}\nhint: {hint}")),
            None => Failure::usage(error),
        })
}

/// A runtime for a command that does one thing.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start threads: {error}")))
}
