//! Rules of the section `sources`: the syntax of hosts, patterns, keys and certificates.

use net::{Authority, AuthorityError, is_host};
use sources::policy::Policy;
use sources::reference::{canonical_registry, check_pattern};

use super::module_sources::Sources;
use crate::text::DocumentError;

const MIN_MODULE_SIZE: u64 = 1 << 10;
/// One reference can name an artifact of several parts, and the store must hold all of them.
const MODULES_IN_STORE: u64 = 4;

pub(super) fn check(sources: &Sources) -> Result<(), DocumentError> {
    hosts("sources.insecure", &sources.insecure)?;
    hosts("sources.trustedRealms", &sources.trusted_realms)?;
    canonical("sources.trustedRealms", &sources.trusted_realms)?;
    credentials(sources)?;
    registries(sources)?;
    policy(&sources.policy)?;
    for (index, key) in sources.bindle.keys.iter().enumerate() {
        let at = format!("sources.bindle.keys[{index}]");
        key.bytes()
            .map_err(|error| DocumentError::new(at, error.to_string()))?;
    }
    files_and_sizes(sources)
}

fn credentials(sources: &Sources) -> Result<(), DocumentError> {
    for (index, entry) in sources.credentials.iter().enumerate() {
        // `*` and `?` match parts of a host name.
        let name = name_of(&entry.host).replace(['*', '?'], "x");
        let form = "a host with an optional port and an optional path, such as \
                    `registry.example.com:5000/team`";
        if let Some(reason) = not_a_host(&entry.host, &name, form) {
            let at = format!("sources.credentials[{index}].host");
            return Err(DocumentError::new(at, reason));
        }
    }
    Ok(())
}

fn registries(sources: &Sources) -> Result<(), DocumentError> {
    canonical("sources.mirrors", sources.mirrors.keys())?;
    for (registry, mirrors) in &sources.mirrors {
        host("sources.mirrors", registry)?;
        for (index, entry) in mirrors.iter().enumerate() {
            mirror(&format!("sources.mirrors.{registry}[{index}]"), entry)?;
        }
    }
    if let Some(registry) = &sources.wkg.default {
        host("sources.wkg.default", registry)?;
    }
    for (namespace, registry) in &sources.wkg.namespaces {
        host(&format!("sources.wkg.namespaces.{namespace}"), registry)?;
    }
    Ok(())
}

fn policy(policy: &Policy) -> Result<(), DocumentError> {
    host_patterns("sources.policy.hosts", &policy.hosts)?;
    let signed: Vec<String> = policy
        .signatures
        .iter()
        .flat_map(|rule| rule.references.clone())
        .collect();
    for (name, patterns) in [
        ("signatures", &signed),
        ("allow", &policy.allow),
        ("deny", &policy.deny),
        ("requireDigest", &policy.require_digest),
    ] {
        module_patterns(&format!("sources.policy.{name}"), patterns)?;
    }
    Ok(())
}

/// Checks patterns of hosts. `at` is the key of the list.
pub(super) fn host_patterns(at: &str, patterns: &[String]) -> Result<(), DocumentError> {
    for (index, entry) in patterns.iter().enumerate() {
        let form = "a host; `*` in it matches any text";
        if let Some(reason) = not_a_host(entry, &entry.replace('*', "x"), form) {
            return Err(DocumentError::new(format!("{at}[{index}]"), reason));
        }
    }
    Ok(())
}

/// Checks patterns of references. `at` is the key of the list.
pub(super) fn module_patterns(at: &str, patterns: &[String]) -> Result<(), DocumentError> {
    for (index, pattern) in patterns.iter().enumerate() {
        check_pattern(pattern)
            .map_err(|error| DocumentError::new(format!("{at}[{index}]"), error.to_string()))?;
    }
    Ok(())
}

fn files_and_sizes(sources: &Sources) -> Result<(), DocumentError> {
    let root = sources.file_root.as_ref();
    if root.is_some_and(|root| !root.is_absolute()) {
        return Err(DocumentError::new(
            "sources.fileRoot",
            "must be an absolute path",
        ));
    }
    let is_pem = |text: &String| text.contains("-----BEGIN CERTIFICATE-----");
    if !sources.ca.iter().all(is_pem) {
        return Err(DocumentError::new(
            "sources.ca",
            "must be the text of certificates in PEM, and not a path",
        ));
    }
    if sources.max_module_size.0 < MIN_MODULE_SIZE {
        return Err(DocumentError::new(
            "sources.maxModuleSize",
            "must be at least 1Ki",
        ));
    }
    let min_store = sources.max_module_size.0.saturating_mul(MODULES_IN_STORE);
    if sources.max_store_size.0 < min_store {
        return Err(DocumentError::new(
            "sources.maxStoreSize",
            "must be at least four times `sources.maxModuleSize`",
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
    let form = "a host with an optional port, such as `registry.example.com:5000`";
    match not_a_host(entry, entry, form) {
        Some(reason) => Err(DocumentError::new(at, reason)),
        None => Ok(()),
    }
}

/// The text before the path of an entry. A URL has no such part.
fn name_of(entry: &str) -> &str {
    match entry.split_once('/') {
        Some((name, _)) if !entry.contains("://") => name,
        _ => entry,
    }
}

/// The reason why `name`, the host of an entry, is not a host. `None` if it is a host.
///
/// - `name`: `x` replaces the wildcards of the entry.
/// - `form`: what the entry must be.
fn not_a_host(entry: &str, name: &str, form: &str) -> Option<String> {
    if is_host(name) {
        return None;
    }
    Some(match name.parse::<Authority>() {
        Ok(canonical) if entry.starts_with(name) => {
            let rest = &entry[name.len()..];
            format!("`{entry}` must be written as `{canonical}{rest}`")
        }
        Ok(_) | Err(AuthorityError::Host) => format!("`{entry}` must be {form}"),
        Err(reason) => format!("`{entry}` is not a host: {reason}"),
    })
}

/// Checks a mirror: a host, and optionally the path that comes before the names of repositories.
fn mirror(at: &str, entry: &str) -> Result<(), DocumentError> {
    let form = "a host with an optional port and an optional path in lower case, such as \
                `harbor.example.com/proxy`";
    let name = name_of(entry);
    if let Some(reason) = not_a_host(entry, name, form) {
        return Err(DocumentError::new(at, reason));
    }
    let path = entry[name.len()..].strip_prefix('/');
    if path.is_some_and(|path| !path.split('/').all(is_repository_component)) {
        return Err(DocumentError::new(at, format!("`{entry}` must be {form}")));
    }
    if path.is_some_and(|path| path.split('/').next() == Some("v2")) {
        let message = format!("`{entry}` must not name `v2`: the executor adds it to the path");
        return Err(DocumentError::new(at, message));
    }
    Ok(())
}

/// Whether the text is a component of a repository's name: words in lower case, with `.`, `_` or
/// `-` between them.
fn is_repository_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_word)
        && text.ends_with(is_word)
        && text.chars().all(|c| is_word(c) || "._-".contains(c))
}

/// Requires the canonical name of each registry. References are compared in that form, so another
/// name of the same registry would never match.
fn canonical<'a>(
    at: &str,
    entries: impl IntoIterator<Item = &'a String>,
) -> Result<(), DocumentError> {
    for entry in entries {
        let canonical = canonical_registry(entry);
        if canonical != *entry {
            return Err(DocumentError::new(
                at,
                format!("`{entry}` must be written as `{canonical}`"),
            ));
        }
    }
    Ok(())
}
