//! Sets up the executor, which takes seconds, and warns about problems that steps would meet.

use std::env;
use std::io;

use artifacts::Stores;
use sources::Sources;
use tokio::sync::watch;

use super::directories::Directories;
use super::error::AppError;
use crate::config::Config;
use crate::pipeline::{Executor, FullResults, Settings};
use crate::runtime::{Capacity, check_trusted};
use crate::telemetry::Metrics;

/// The variables in which the AWS SDK finds credentials or their source.
const AWS_CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_PROFILE",
];

/// Settings of an executor with this number of slots. The output of modules is not logged.
pub fn executor_settings(config: &Config, directories: &Directories, steps: u32) -> Settings {
    Settings {
        capacity: Capacity {
            steps,
            memory: config.capacity.memory.0,
        },
        metrics: Metrics::new(steps),
        has_tenants: false,
        compile_memory: config.capacity.compile_memory.0,
        scratch: directories.scratch.clone(),
        code: Some(directories.code.clone()),
        min_free_disk: config.capacity.min_free_disk.0,
        outputs: config.limits.outputs(),
        log_module_output: false,
        results_full: watch::channel(FullResults::default()).1,
    }
}

/// What the executor shares with the front end. See [`Settings`].
#[derive(Debug)]
pub struct SharedWithFrontEnd {
    /// The templates whose steps may not start to run.
    pub results_full: watch::Receiver<FullResults>,
    /// Whether the steps belong to tenants.
    pub has_tenants: bool,
    /// The metrics of the process.
    pub metrics: Metrics,
}

/// Sets up the executor of `serve`. Blocks for seconds; needs a tokio runtime.
pub fn set_up(
    sources: Sources,
    stores: Stores,
    config: &Config,
    directories: &Directories,
    shared: SharedWithFrontEnd,
) -> Result<Executor, AppError> {
    let steps = config.capacity.steps;
    let settings = Settings {
        log_module_output: config.telemetry.log.module_output,
        results_full: shared.results_full,
        has_tenants: shared.has_tenants,
        metrics: shared.metrics,
        ..executor_settings(config, directories, steps)
    };
    let executor = Executor::new(sources, stores, settings)
        .map_err(|error| AppError::executor(format!("{error:#}"), steps))?;
    warn_about_directories(&executor, config, directories);
    warn_about_memory(config);
    warn_about_credentials(config);
    Ok(executor)
}

fn warn_about_directories(executor: &Executor, config: &Config, directories: &Directories) {
    if let Err(error) = executor.check_scratch() {
        let directory = directories.scratch.display();
        tracing::warn!(%directory, %error, "steps that use files cannot run: the scratch directory is not writable");
    }
    if let Err(error) = directories.store(config).check() {
        let directory = directories.cache.display();
        tracing::warn!(%directory, %error, "modules cannot be fetched: the cache directory is not writable");
    }
    warn_about_other_users(directories);
}

/// Warns if other users can replace the files of steps, or the results of resolved references. The
/// compiler checks the code directory itself.
fn warn_about_other_users(directories: &Directories) {
    let mut known = Vec::new();
    for directory in [&directories.cache, &directories.scratch] {
        let error = match check_trusted(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => error,
            // A directory that does not exist is reported elsewhere.
            Ok(()) | Err(_) => continue,
        };
        // Both directories are usually below the same directory, which the error names.
        let error = error.to_string();
        if !known.contains(&error) {
            let directory = directory.display();
            tracing::warn!(%directory, error, "other users can replace files of modules or steps");
            known.push(error);
        }
    }
}

fn warn_about_memory(config: &Config) {
    if config.limits.memory > config.capacity.memory {
        let capacity = config.capacity.memory;
        tracing::warn!(%capacity, "`limits.memory` is above `capacity.memory`: a step gets at most `capacity.memory`, and then no other step runs");
    }
}

fn warn_about_credentials(config: &Config) {
    let bucket = config
        .artifacts
        .repository
        .as_ref()
        .and_then(|repository| repository.s3.as_ref());
    let has_no_keys = bucket.is_some_and(|bucket| bucket.access_key_secret.is_none());
    if has_no_keys
        && AWS_CREDENTIALS
            .iter()
            .all(|name| env::var_os(name).is_none())
    {
        tracing::warn!(
            "the artifact repository names no keys, and the environment has no AWS credentials: only a role of this machine can give access"
        );
    }
}
