//! What a configuration's types cannot say: values that would never work are errors before anything starts.

use std::time::Duration;

use net::is_host;
use sources::reference::{canonical_registry, check_pattern};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{Config, Limits, Sources};
use crate::text::config_reader::DocumentError;

/// The agent's calls end after 30 s.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// An engine's memories are this large, whether 32-bit or not: more could never be used at once.
const MAX_MEMORY: u64 = 4 << 30;
/// A page of linear memory: a module cannot have less, unless it has none.
const MIN_MEMORY: u64 = 64 << 10;

pub(super) fn check(config: &Config) -> Result<(), DocumentError> {
    limits(&config.limits)?;
    if config.agent.wait.0 > LONGEST_WAIT {
        return Err(DocumentError::new(
            "agent.wait",
            "must be at most 20s: the agent ends a call after 30 s",
        ));
    }
    if config.agent.workflow_poll_interval.0.is_zero() {
        return Err(DocumentError::new(
            "agent.workflowPollInterval",
            "must be more than 0",
        ));
    }
    if config.agent.patch_rate.0.is_zero() {
        return Err(DocumentError::new(
            "agent.patchRate",
            "must be more than 0, as ARGO_AGENT_PATCH_RATE is",
        ));
    }
    sources(&config.sources)?;
    if let Some(repository) = &config.artifacts.repository {
        let place = repository.destination().map_err(|error| error.to_string());
        let place = place.and_then(|place| {
            place.ok_or_else(|| "it names no place: `s3`, or `directory`".to_owned())
        });
        place.map_err(|error| DocumentError::new("artifacts.repository", error))?;
        let directory = repository.directory.as_ref();
        if directory.is_some_and(|directory| !directory.path.is_absolute()) {
            return Err(DocumentError::new(
                "artifacts.repository.directory.path",
                "must be an absolute path",
            ));
        }
    }
    log_filter(&config.telemetry.log.level)
        .map(drop)
        .map_err(|message| DocumentError::new("telemetry.log.level", message))
}

fn limits(limits: &Limits) -> Result<(), DocumentError> {
    let rules = [
        (
            "steps",
            (1..=1024).contains(&limits.steps),
            "must be between 1 and 1024",
        ),
        (
            "message",
            limits.message.0 >= 64,
            "must be at least 64 bytes",
        ),
        (
            "memory",
            limits.memory.0 >= MIN_MEMORY,
            "must be at least 64Ki, the least that a module can have",
        ),
        (
            "memory",
            limits.memory.0 <= MAX_MEMORY,
            "must be at most 4Gi, the most that a module can address",
        ),
        (
            "stepsMemory",
            limits.steps_memory.0 >= MIN_MEMORY,
            "must be at least 64Ki, the least that a module can have",
        ),
        (
            "entries",
            limits.entries >= 16,
            "must be at least 16: every step's directory has some",
        ),
        ("time", !limits.time.0.is_zero(), "must be more than 0"),
    ];
    match rules.into_iter().find(|(_, holds, _)| !holds) {
        Some((name, _, why)) => Err(DocumentError::new(format!("limits.{name}"), why)),
        None => Ok(()),
    }
}

fn sources(sources: &Sources) -> Result<(), DocumentError> {
    hosts("sources.insecure", &sources.insecure)?;
    hosts("sources.trustedRealms", &sources.trusted_realms)?;
    for (index, entry) in sources.credentials.iter().enumerate() {
        let name = entry
            .host
            .split('/')
            .next()
            .unwrap_or_default()
            .replace(['*', '?'], "x");
        host(&format!("sources.credentials[{index}].host"), &name).map_err(|error| {
            DocumentError::new(
                error.path(),
                format!(
                    "`{}` must be a host, `host` or `host:port`, and a path if need be",
                    entry.host
                ),
            )
        })?;
    }
    canonical("sources.trustedRealms", &sources.trusted_realms)?;
    canonical("sources.mirrors", sources.mirrors.keys())?;
    for (registry, mirrors) in &sources.mirrors {
        host("sources.mirrors", registry)?;
        hosts(&format!("sources.mirrors.{registry}"), mirrors)?;
    }
    let (default, namespaces) = (&sources.wkg.default, &sources.wkg.namespaces);
    default
        .iter()
        .try_for_each(|name| host("sources.wkg.default", name))?;
    namespaces.iter().try_for_each(|(namespace, name)| {
        host(&format!("sources.wkg.namespaces.{namespace}"), name)
    })?;
    let policy = &sources.policy;
    for (index, entry) in policy.hosts.iter().enumerate() {
        host(
            &format!("sources.policy.hosts[{index}]"),
            &entry.replace('*', "x"),
        )
        .map_err(|error| {
            DocumentError::new(
                error.path(),
                format!("`{entry}` must be a host, in which `*` stands for any text"),
            )
        })?;
    }
    let signed: Vec<String> = policy
        .signatures
        .iter()
        .flat_map(|rule| rule.references.clone())
        .collect();
    for (name, entries) in [
        ("signatures", &signed),
        ("allow", &policy.allow),
        ("deny", &policy.deny),
        ("requireDigest", &policy.require_digest),
    ] {
        for (index, entry) in entries.iter().enumerate() {
            let at = format!("sources.policy.{name}[{index}]");
            check_pattern(entry).map_err(|error| DocumentError::new(at, error.to_string()))?;
        }
    }
    for (index, key) in sources.bindle.keys.iter().enumerate() {
        let at = format!("sources.bindle.keys[{index}]");
        key.bytes()
            .map_err(|error| DocumentError::new(at, error.to_string()))?;
    }
    if sources
        .files
        .as_ref()
        .is_some_and(|files| !files.is_absolute())
    {
        return Err(DocumentError::new(
            "sources.files",
            "must be an absolute path",
        ));
    }
    if sources
        .ca
        .iter()
        .any(|text| !text.contains("-----BEGIN CERTIFICATE-----"))
    {
        return Err(DocumentError::new(
            "sources.ca",
            "must be the text of certificates in PEM, and not a path",
        ));
    }
    if sources.max_module.0 < 1 << 10 {
        return Err(DocumentError::new(
            "sources.maxModule",
            "must be at least 1Ki",
        ));
    }
    // What one reference names can have several parts, and all of them have to be there at once.
    if sources.max_store.0 < sources.max_module.0.saturating_mul(4) {
        return Err(DocumentError::new(
            "sources.maxStore",
            "must be at least four times `sources.maxModule`",
        ));
    }
    Ok(())
}

fn hosts(at: &str, entries: &[String]) -> Result<(), DocumentError> {
    entries
        .iter()
        .enumerate()
        .try_for_each(|(index, entry)| host(&format!("{at}[{index}]"), entry))
}

fn host(at: &str, entry: &str) -> Result<(), DocumentError> {
    match is_host(entry) {
        true => Ok(()),
        false => Err(DocumentError::new(
            at,
            format!("`{entry}` must be a host, `host` or `host:port`"),
        )),
    }
}

/// What is compared with one name of a registry, and is another of its names, would never match.
fn canonical<'a>(
    at: &str,
    entries: impl IntoIterator<Item = &'a String>,
) -> Result<(), DocumentError> {
    for entry in entries {
        let canonical = canonical_registry(entry);
        if canonical != *entry {
            return Err(DocumentError::new(
                at,
                format!("`{entry}` is written `{canonical}`"),
            ));
        }
    }
    Ok(())
}

/// Reads a level, or a filter such as `info,wasmtime=debug`. A word that is no level would be the name of a part of the program, and
/// everything else silent: that is refused.
pub fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    for level in directives
        .iter()
        .filter(|directive| !directive.contains(['=', '[', ']']))
    {
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "`{level}` is not a log level; those are error, warn, info, debug, trace and off"
            ));
        }
    }
    EnvFilter::try_new(directives.join(","))
        .map_err(|error| format!("`{text}` is not a log filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters() {
        assert_eq!(log_filter("info \n").unwrap().to_string(), "info");
        assert_eq!(
            log_filter("info, wasmtime=debug").unwrap().max_level_hint(),
            Some(LevelFilter::DEBUG)
        );
        for text in ["", "loud", "info,loud", "a=b=c"] {
            assert!(log_filter(text).is_err(), "{text}");
        }
    }
}
