//! Rules for everything that a template declares: unique names and valid paths.

use std::collections::HashSet;

use crate::step::GuestPath;
use crate::text::DocumentError;

/// Refuses a list in which two entries have one name: parameters and artifacts are found by name.
///
/// `at` is the path of the list. `kind` is the word for one item of the list in the error.
pub(super) fn unique_names<'a>(
    names: impl IntoIterator<Item = &'a str>,
    at: &str,
    kind: &str,
) -> Result<(), DocumentError> {
    let mut seen = HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(DocumentError::new(
            format!("{at}.{name}"),
            format!("another {kind} has the same name"),
        )),
        None => Ok(()),
    }
}

/// Parses the key `path` of the declaration at `at`.
pub(super) fn guest_path(at: &str, path: Option<&str>) -> Result<GuestPath, DocumentError> {
    let path = path.ok_or_else(|| DocumentError::new(at, "the key `path` is missing"))?;
    path.parse()
        .map_err(|error| DocumentError::new(format!("{at}.path"), format!("{error}")))
}
