//! Rules of the section `namespaces`.

use super::check_sources::{host_patterns, module_patterns};
use super::namespaces::NamespaceSettings;
use crate::text::DocumentError;

pub(super) fn check(namespaces: &[NamespaceSettings]) -> Result<(), DocumentError> {
    for (index, settings) in namespaces.iter().enumerate() {
        let at = format!("namespaces[{index}]");
        names(&format!("{at}.names"), &settings.names)?;
        host_patterns(&format!("{at}.hosts"), &settings.hosts)?;
        if settings.limits.total.is_some_and(|total| total.0.is_zero()) {
            let at = format!("{at}.limits.total");
            return Err(DocumentError::new(at, "must be more than 0"));
        }
        let modules = &settings.modules;
        for (name, patterns) in [
            ("allow", &modules.allow),
            ("deny", &modules.deny),
            ("requireDigest", &modules.require_digest),
        ] {
            module_patterns(&format!("{at}.modules.{name}"), patterns)?;
        }
    }
    Ok(())
}

/// Checks the patterns of the names of namespaces. A character that no name can have is an error.
fn names(at: &str, patterns: &[String]) -> Result<(), DocumentError> {
    if patterns.is_empty() {
        let message = "must have at least one name or pattern, such as `team-*`";
        return Err(DocumentError::new(at, message));
    }
    let may_be_in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-*".contains(c);
    for (index, pattern) in patterns.iter().enumerate() {
        if pattern.is_empty() || !pattern.chars().all(may_be_in_name) {
            let message = format!(
                "`{pattern}` must be the name of a namespace, or a pattern such as `team-*`"
            );
            return Err(DocumentError::new(format!("{at}[{index}]"), message));
        }
    }
    Ok(())
}
