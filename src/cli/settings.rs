//! Flags that several commands share, and the settings that follow from them.
//!
//! Precedence: flag, environment variable, configuration document, default.

use std::env;
use std::path::{Component, Path, PathBuf};

use artifacts::{ArtifactRepository, Stores};
use clap::Args;
use net::Authority;
use sources::reference::FileReference;
use sources::source::SharedProgress;
use sources::{Reference, Sources};

use super::Failure;
use crate::app::{self, AppError, ChosenDirectories, Directories};
use crate::config::{Config, LogFormat};
use crate::kubernetes::Kubernetes;
use crate::telemetry;
use crate::text::{config_reader, yaml};

/// Flags of every command that reads the configuration.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Base {
    /// The configuration file; WASM_WORKFLOW_CONFIG may contain its text instead
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Log level of this program: error, warn, info, debug, trace or off; or a filter such as info,wasmtime=debug
    #[arg(long, value_name = "LEVEL", env = "WASM_WORKFLOW_LOG_LEVEL")]
    log_level: Option<String>,
    /// Format of log lines
    #[arg(long, value_name = "FORMAT", env = "WASM_WORKFLOW_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// Flags of the commands that send requests to registries.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Registries {
    /// A registry or web server that uses plain HTTP and may be on this machine; repeatable
    #[arg(long, value_name = "HOST[:PORT]", env = "WASM_WORKFLOW_INSECURE_REGISTRY", value_delimiter = ',', value_parser = host)]
    insecure_registry: Vec<String>,
}

/// Flags of the commands that use the store of modules.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Cache {
    /// Directory for fetched modules
    #[arg(long, value_name = "DIR", env = "WASM_WORKFLOW_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
}

/// Flags of the commands that run steps. `Common` has all flags of this file: a command that lacks some
/// of these flags makes its `Common` with [`Common::of`].
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Common {
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    cache: Cache,
    /// Use the Kubernetes API with this kubeconfig file [default: in a cluster, the pod's service account]
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Directory for compiled code; it must be private to this user [default: `code` in the cache directory]
    #[arg(long, value_name = "DIR", env = "WASM_WORKFLOW_CODE_DIR")]
    code_dir: Option<PathBuf>,
    /// Directory in which the directories of steps are created
    #[arg(long, value_name = "DIR", env = "WASM_WORKFLOW_SCRATCH_DIR")]
    scratch_dir: Option<PathBuf>,
    /// File with the artifact repository in Argo's format; replaces `artifacts.repository` of the configuration
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_ARTIFACT_REPOSITORY")]
    artifact_repository: Option<PathBuf>,
}

/// Reads an artifact repository from its file.
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
            "it names no location: it needs `s3` or `directory`".to_owned(),
        )),
        Err(error) => Err(failed(error.describe())),
    }
}

fn host(text: &str) -> Result<String, String> {
    // An empty variable, and a comma at the end, give an empty text, which is ignored later.
    if text.is_empty() {
        return Ok(String::new());
    }
    text.parse::<Authority>()
        .map(|host| host.to_string())
        .map_err(|error| error.to_string())
}

impl Common {
    /// The flags of a command that runs no steps.
    pub(super) fn of(base: Base, registries: Registries, cache: Cache) -> Self {
        Self {
            base,
            registries,
            cache,
            ..Self::default()
        }
    }

    /// Loads the configuration, and starts the log. `quiet` replaces the configured log level; the
    /// flag overrides both.
    pub(super) fn start(&self, quiet: Option<&str>) -> Result<Config, Failure> {
        let config = self.load()?;
        let mut log = config.telemetry.log.clone();
        if let (Some(quiet), None) = (quiet, &self.base.log_level) {
            quiet.clone_into(&mut log.level);
        }
        telemetry::start(&log).map_err(Failure::usage)?;
        Ok(config)
    }

    /// Loads the configuration, and applies the flags.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let text = env::var("WASM_WORKFLOW_CONFIG").ok();
        let config = match (&self.base.config, text) {
            (Some(file), _) => Config::from_file(file),
            (None, Some(text)) => Config::from_text(&text, "WASM_WORKFLOW_CONFIG"),
            (None, None) => Ok(Config::default()),
        };
        let mut config = config.map_err(Failure::usage)?;
        if !self.registries.insecure_registry.is_empty() {
            let listed = self
                .registries
                .insecure_registry
                .iter()
                .filter(|host| !host.is_empty());
            config.sources.insecure = listed.cloned().collect();
        }
        if let Some(level) = &self.base.log_level {
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
        if let Some(format) = self.base.log_format {
            config.telemetry.log.format = format;
        }
        Ok(config)
    }

    /// Access to the Kubernetes API, if any. Must run inside a tokio runtime.
    pub(super) fn kubernetes(&self) -> Result<Option<Kubernetes>, Failure> {
        Ok(app::kubernetes(self.kubeconfig.as_deref())?)
    }

    /// The sources of modules, over the store in the cache directory.
    ///
    /// `local` is the mode for a developer's own machine: all files and the user's own logins may
    /// be used.
    pub(super) fn sources(
        &self,
        config: &Config,
        directories: &Directories,
        kubernetes: Option<Kubernetes>,
        local: bool,
        progress: SharedProgress,
    ) -> Result<Sources, Failure> {
        app::sources(config, directories, kubernetes, local, progress)
            .map_err(|error| self.failure(error))
    }

    /// An error of the program; one about the configuration says where the configuration is.
    pub(super) fn failure(&self, error: AppError) -> Failure {
        let is_usage = error.is_usage();
        let mut failure = Failure::from(error);
        if is_usage && failure.message.starts_with("`sources.") {
            failure.message = format!(
                "the configuration in {}: {}",
                self.origin(),
                failure.message
            );
        }
        failure
    }

    /// The artifact stores.
    pub(super) fn stores(config: &Config, kubernetes: Option<Kubernetes>) -> Stores {
        app::stores(config, kubernetes)
    }

    /// The file or variable with the configuration, for messages.
    fn origin(&self) -> String {
        match &self.base.config {
            Some(file) => format!("`{}`", file.display()),
            None => "WASM_WORKFLOW_CONFIG".to_owned(),
        }
    }

    /// The directories: of a server, or of a command in local mode.
    pub(super) fn directories(&self, server: bool) -> Result<Directories, Failure> {
        let chosen = ChosenDirectories {
            cache: self.cache.cache_dir.clone(),
            code: self.code_dir.clone(),
            scratch: self.scratch_dir.clone(),
        };
        let directories = match server {
            true => Directories::for_server(chosen),
            false => Directories::for_user(chosen),
        };
        Ok(directories?)
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let message = match error.hint() {
            Some(hint) => format!("{error}\nhint: {hint}"),
            None => error.to_string(),
        };
        match error.is_usage() {
            true => Self::usage(message),
            false => Self::error(message),
        }
    }
}

/// A module on the command line: a URI, an existing file, or an OCI reference.
pub(super) fn reference(text: &str) -> Result<Reference, Failure> {
    let is_wasm_file = Path::new(text)
        .extension()
        .is_some_and(|extension| extension == "wasm");
    let looks_like_path = text.starts_with(['.', '/']) || (!text.contains(':') && is_wasm_file);
    if !text.contains("://") && (looks_like_path || Path::new(text).is_file()) {
        let path = std::path::absolute(text)
            .map_err(|error| Failure::usage(format!("`{text}`: {error}")))?;
        check_file(text, &path)?;
        // A reference to a file contains no `..`.
        let path = match path.components().any(|part| part == Component::ParentDir) {
            true => path
                .canonicalize()
                .map_err(|error| Failure::usage(format!("`{text}`: {error}")))?,
            false => path,
        };
        return Ok(FileReference::new(path).into());
    }
    let registry = text
        .split_once('/')
        .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
    if !text.contains(':') && !registry && Path::new(text).is_dir() {
        return Err(is_directory(text));
    }
    if !text.contains(':') && !registry {
        return Err(Failure::usage(format!(
            "there is no file `{text}`\nhint: a module in a registry is HOST/REPOSITORY:TAG, \
             on Docker Hub docker.io/{text}"
        )));
    }
    let reference: Reference =
        text.parse()
            .map_err(|error: sources::Error| match error.hint() {
                Some(hint) => Failure::usage(format!("{error}\nhint: {hint}")),
                None => Failure::usage(error),
            })?;
    if let Some(file) = reference.as_kind::<FileReference>() {
        check_file(text, file.path())?;
    }
    Ok(reference)
}

/// Refuses a path that is not the path of a file. `text` is the path on the command line.
fn check_file(text: &str, path: &Path) -> Result<(), Failure> {
    match (path.exists(), path.is_dir()) {
        (false, _) => Err(Failure::usage(format!("there is no file `{text}`"))),
        (true, true) => Err(is_directory(text)),
        (true, false) => Ok(()),
    }
}

fn is_directory(text: &str) -> Failure {
    Failure::usage(format!("`{text}` is a directory, not a module"))
        .with_hint("name the file of the module")
}

/// A small tokio runtime, for a command with a single task.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start threads: {error}")))
}
