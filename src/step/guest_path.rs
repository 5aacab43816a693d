//! Paths in a step's directory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A path that a template or a module names: absolute, below `/`, and not one that the host itself writes.
///
/// - It has no `.`, `..` or empty segment, and no NUL.
/// - It is not `/`, `/tmp` or `/work`, and not at or below `/work/input.json`, `/work/result.json` or `/work/artifacts-in`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestPath {
    /// Without the leading slash.
    relative: String,
}

/// Why a path cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestPathError {
    /// No path, or one that climbs.
    #[error("`{0}` is not a path of a file below `/`")]
    Invalid(String),
    /// A path of the host's.
    #[error("`{0}` is kept for the executor; choose another path, such as `/out/…`")]
    Reserved(String),
}

const RESERVED: [&str; 3] = ["tmp", "work", ""];
const RESERVED_TREES: [&str; 3] = ["work/input.json", "work/result.json", "work/artifacts-in"];
const LONGEST: usize = 1024;

impl GuestPath {
    /// The path without the leading slash, for use below the step's directory.
    pub fn relative(&self) -> &str {
        &self.relative
    }

    /// The directory that holds it, without the leading slash; empty for `/`.
    pub fn parent(&self) -> &str {
        self.relative
            .rsplit_once('/')
            .map_or("", |(parent, _)| parent)
    }
}

impl FromStr for GuestPath {
    type Err = GuestPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(200).collect::<String>();
        if text.is_empty() || text.len() > LONGEST || text.contains('\0') {
            return Err(GuestPathError::Invalid(shown()));
        }
        let segments: Vec<&str> = text
            .split('/')
            .filter(|segment| !segment.is_empty() && *segment != ".")
            .collect();
        if segments
            .iter()
            .any(|segment| *segment == ".." || segment.len() > 255)
        {
            return Err(GuestPathError::Invalid(shown()));
        }
        let relative = segments.join("/");
        let in_tree = |tree: &str| {
            relative
                .strip_prefix(tree)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if RESERVED.contains(&relative.as_str()) || RESERVED_TREES.iter().any(|tree| in_tree(tree))
        {
            return Err(GuestPathError::Reserved(shown()));
        }
        Ok(Self { relative })
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.relative)
    }
}

impl TryFrom<String> for GuestPath {
    type Error = GuestPathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GuestPath> for String {
    fn from(path: GuestPath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (text, plain, parent) in [
            ("/in/photo.jpg", "/in/photo.jpg", "in"),
            ("out//x/./y/", "/out/x/y", "out/x"),
            ("/x", "/x", ""),
            ("/tmp/x", "/tmp/x", "tmp"),
        ] {
            let path: GuestPath = text.parse().unwrap();
            assert_eq!((path.to_string().as_str(), path.parent()), (plain, parent));
        }
        assert!("/work/artifacts-out/x".parse::<GuestPath>().is_ok());
        assert!("/work/input.json5".parse::<GuestPath>().is_ok());
    }

    #[test]
    fn what_climbs_or_is_the_hosts_is_refused() {
        for text in ["", "/..", "/a/../../etc/passwd", "a\0b"] {
            assert!(
                matches!(text.parse::<GuestPath>(), Err(GuestPathError::Invalid(_))),
                "{text}"
            );
        }
        for text in [
            "/",
            "//",
            ".",
            "/tmp",
            "/tmp/",
            "/work",
            "/work/input.json",
            "/work/result.json/x",
            "/work/artifacts-in",
            "work/artifacts-in/a",
        ] {
            assert!(
                matches!(text.parse::<GuestPath>(), Err(GuestPathError::Reserved(_))),
                "{text}"
            );
        }
    }
}
