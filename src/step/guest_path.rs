//! Paths in the directory of a step.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An absolute path of a file or directory in the guest, from a template or a module.
///
/// - The path has no segment `.` or `..`, no empty segment and no NUL.
/// - The path is not `/`, `/tmp` or `/work`.
/// - The path is not, and is not below, a path that only the host writes: `/work/input.json`,
///   `/work/result.json` and `/work/artifacts-in`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestPath {
    /// The path without the slash at its beginning.
    relative: String,
}

/// Why a path cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestPathError {
    /// The text is empty or too long, or the path leads out of `/`.
    #[error("`{0}` is not a path of a file below `/`")]
    Invalid(String),
    /// Only the host writes at this path.
    #[error("`{0}` is reserved for the executor; choose another path, such as `/out/…`")]
    Reserved(String),
}

const RESERVED: [&str; 3] = ["tmp", "work", ""];
const RESERVED_TREES: [&str; 3] = ["work/input.json", "work/result.json", "work/artifacts-in"];
/// Longest path, in bytes.
const LONGEST: usize = 1024;
/// Longest name of a file or directory, in bytes.
const LONGEST_SEGMENT: usize = 255;

impl GuestPath {
    /// The path without the slash at its beginning, relative to the step's directory.
    pub fn relative(&self) -> &str {
        &self.relative
    }

    /// The parent directory, without the slash at its beginning. Empty for the parent `/`.
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
            .any(|segment| *segment == ".." || segment.len() > LONGEST_SEGMENT)
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
    fn paths_are_normalised() {
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
    fn paths_out_of_the_root_and_reserved_paths_are_refused() {
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
