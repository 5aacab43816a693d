//! References to files: `file:///path`

use std::fmt;
use std::path::{Path, PathBuf};

use super::kind::{ReferenceKind, Syntax};
use super::{Reference, invalid};
use crate::Error;

/// A module in a file of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileReference {
    path: PathBuf,
}

impl FileReference {
    pub(super) const SYNTAX: Syntax = Syntax {
        prefixes: &["file://"],
        subjects: &["file://"],
        parse: |text| Self::parse(text).map(Reference::from),
        check_pattern: |_| Ok(()),
    };

    /// The file at an absolute path.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads `file:///path`. The path must not have an empty segment, `.` or `..`: the operator's
    /// rules match the text of the path.
    fn parse(text: &str) -> Result<Self, Error> {
        let path = text.strip_prefix("file://").unwrap_or(text);
        let mut segments = path.split('/').skip(1);
        let is_plain =
            path.starts_with('/') && !segments.any(|segment| matches!(segment, "" | "." | ".."));
        if is_plain {
            return Ok(Self::new(PathBuf::from(path)));
        }
        Err(invalid(
            text,
            "a file's path must be absolute and plain, `file:///path/module.wasm`",
        ))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl ReferenceKind for FileReference {
    fn scheme(&self) -> &'static str {
        "file"
    }

    fn program_name(&self) -> Option<String> {
        let name = self.path.file_name()?;
        Some(name.to_string_lossy().into_owned())
    }
}

impl fmt::Display for FileReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
