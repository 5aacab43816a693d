//! Everything that a configuration needs and the printed manifests do not contain.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::documents;
use super::resources::own_memory;
use crate::cli::Failure;
use crate::config::{Capacity, Config, SecretSource};
use crate::text::units::ByteSize;

/// The parts of the command line that answer a need of the configuration.
pub(super) struct Given<'a> {
    /// Names of the environment variables that `--env` sets.
    pub(super) variables: Vec<&'a str>,
    pub(super) api_access: bool,
    pub(super) image: bool,
    /// The default capacity in the container.
    pub(super) capacity: Capacity,
    /// The memory limit of the container.
    pub(super) memory: ByteSize,
}

/// One warning for each need that the command line does not answer. `text` is the text of the
/// configuration.
pub(super) fn warnings(
    config: &Config,
    text: &str,
    given: &Given<'_>,
) -> Result<Vec<String>, Failure> {
    let credentials = config.sources.credentials.iter();
    let secrets = credentials.flat_map(|credential| {
        let password = credential.password_from.iter();
        password.chain(&credential.token_from)
    });
    let mut warnings: Vec<String> = secrets
        .filter_map(|secret| missing_secret(secret, given))
        .collect();
    warnings.extend(config.sources.file_root.as_deref().map(not_mounted));
    let secrets = repository_secrets(config);
    if !given.api_access && !secrets.is_empty() {
        let names = secrets.into_iter().collect::<Vec<_>>().join(", ");
        warnings.push(format!(
            "the artifact repository names the Secrets {names}, which can be read only with --api-access"
        ));
    }
    if !given.image {
        warnings.push(
            "no image of this version is published; build one with plugin/image/build, \
             and name it with --image"
                .to_owned(),
        );
    }
    let written = written_capacity(text)?;
    let capacity = capacity(config, &written, given);
    let to_raise = match written["memory"].is_null() {
        true => "--memory",
        false => "`capacity.memory`",
    };
    warnings.extend(too_few_steps(config, &capacity, to_raise));
    warnings.extend(too_much_memory(&capacity, given));
    Ok(warnings)
}

/// The section `capacity` of the configuration, as it is written. Null if there is none.
fn written_capacity(text: &str) -> Result<Value, Failure> {
    let documents = documents(text)?;
    let section = documents
        .first()
        .and_then(|document| document.get("capacity"));
    Ok(section.cloned().unwrap_or_default())
}

/// The capacity of the executor in the container: the values of the configuration, and otherwise the
/// defaults in this container.
fn capacity(config: &Config, written: &Value, given: &Given<'_>) -> Capacity {
    // The defaults in `config` are those of this machine, not those of the container.
    let is_written = |key: &str| !written[key].is_null();
    let mut capacity = given.capacity;
    if is_written("steps") {
        capacity.steps = config.capacity.steps;
    }
    if is_written("memory") {
        capacity.memory = config.capacity.memory;
    }
    if is_written("compileMemory") {
        capacity.compile_memory = config.capacity.compile_memory;
    }
    capacity
}

/// A warning if the memory for modules is too small for the number of steps. `to_raise` is the
/// setting that decides the memory for modules.
fn too_few_steps(config: &Config, capacity: &Capacity, to_raise: &str) -> Option<String> {
    let Capacity { steps, memory, .. } = *capacity;
    let ByteSize(each) = config.limits.memory;
    let fit = (memory.0 / each.max(1)).max(1);
    (fit < u64::from(steps)).then(|| {
        format!(
            "only {fit} of {steps} steps fit into the memory for modules at once ({memory}, and \
             {} for each step): lower `limits.memory`, or raise {to_raise}",
            config.limits.memory
        )
    })
}

/// A warning if modules and the compiler may take more memory than the executor can leave to them.
/// Kubernetes would then end the container while steps run.
fn too_much_memory(capacity: &Capacity, given: &Given<'_>) -> Option<String> {
    let Capacity {
        memory,
        compile_memory,
        ..
    } = *capacity;
    let own = own_memory(given.memory);
    let needed = memory
        .0
        .saturating_add(compile_memory.0)
        .saturating_add(own.0);
    (needed > given.memory.0).then(|| {
        format!(
            "`capacity.memory` ({memory}), `capacity.compileMemory` ({compile_memory}) and the \
             executor itself ({own}) need more than the memory of the container ({}): lower \
             `capacity`, or raise --memory",
            given.memory
        )
    })
}

fn missing_secret(secret: &SecretSource, given: &Given<'_>) -> Option<String> {
    match (&secret.env, &secret.file) {
        (Some(name), _) if given.variables.contains(&name.as_str()) => None,
        (Some(name), _) => Some(format!(
            "the configuration reads the environment variable {name}; \
             add --env {name}=SECRET/KEY"
        )),
        (None, Some(file)) => Some(not_mounted(file)),
        (None, None) => None,
    }
}

fn not_mounted(file: &Path) -> String {
    format!(
        "the configuration reads `{}`, but the manifest mounts no files; \
         the image must contain this path",
        file.display()
    )
}

/// Names of the Secrets with the keys of the operator's artifact repository.
pub(super) fn repository_secrets(config: &Config) -> BTreeSet<String> {
    let Some(s3) = config
        .artifacts
        .repository
        .as_ref()
        .and_then(|repository| repository.s3.as_ref())
    else {
        return BTreeSet::new();
    };
    let customer = s3
        .encryption_options
        .as_ref()
        .and_then(|options| options.server_side_customer_key_secret.as_ref());
    let keys = [
        &s3.access_key_secret,
        &s3.secret_key_secret,
        &s3.session_token_secret,
        &s3.ca_secret,
    ];
    let keys = keys.into_iter().flatten().chain(customer);
    keys.map(|key| key.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}
