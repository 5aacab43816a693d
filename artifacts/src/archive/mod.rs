//! Packs and unpacks artifacts: Argo's `archive`.

mod entries;
mod links;
mod read;
mod target;
mod write;

use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use read::{Place, is_tar_gz, untar, unzip};
pub(crate) use write::{Packed, tar_gz, zip};

/// `archive` of an artifact (`ArchiveStrategy` in Argo's `workflow_types.go`). If several keys are
/// set, the first of them is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArchiveStrategy {
    /// No archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none: Option<Empty>,
    /// A gzipped tar archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tar: Option<TarStrategy>,
    /// A zip archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zip: Option<Empty>,
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// `archive.tar`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TarStrategy {
    /// Compression level of Go's gzip package: 0 (no compression) to 9 (best compression), -1
    /// (default) or -2 (fastest).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
}

/// How an artifact is packed for an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pack {
    /// No archive: a directory becomes one object for each file.
    None,
    /// A gzipped tar archive with this compression level, 0 to 9.
    Tar(u32),
    /// A zip archive.
    Zip,
}

/// How an artifact is unpacked after a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unpack {
    /// No archive.
    None,
    /// A tar archive, gzipped or not.
    Tar,
    /// A zip archive.
    Zip,
    /// A gzipped tar archive if the content is one; otherwise no archive. The gzip may be a content
    /// coding of HTTP that the store has undone.
    Detect,
}

/// A template has a compression level that gzip does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a level of gzip, -2 to 9, and not {0}")]
pub struct InvalidCompressionLevel(pub i32);

impl Pack {
    /// Packing by the rules of Argo's executor. Without a strategy it is a gzipped tar archive.
    /// With the empty strategy `{}` it is one without compression.
    pub fn of(strategy: Option<&ArchiveStrategy>) -> Result<Self, InvalidCompressionLevel> {
        let Some(strategy) = strategy else {
            return Ok(Self::Tar(6));
        };
        if strategy.none.is_some() {
            return Ok(Self::None);
        }
        if strategy.zip.is_some() {
            return Ok(Self::Zip);
        }
        let level = strategy.tar.map(|tar| tar.compression_level.unwrap_or(-1));
        match level {
            None => Ok(Self::Tar(0)),
            Some(-1) => Ok(Self::Tar(6)),
            Some(-2) => Ok(Self::Tar(1)),
            Some(level @ 0..=9) => Ok(Self::Tar(level.unsigned_abs())),
            Some(level) => Err(InvalidCompressionLevel(level)),
        }
    }

    /// Argo's name for the object of an artifact without a key of its own.
    pub fn file_name(self, artifact: &str, path: &str) -> String {
        match self {
            Self::None => Path::new(path).file_name().map_or_else(
                || artifact.to_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
            Self::Tar(_) => format!("{artifact}.tgz"),
            Self::Zip => format!("{artifact}.zip"),
        }
    }
}

impl Unpack {
    /// Unpacking by the rules of Argo's executor.
    pub fn of(strategy: Option<&ArchiveStrategy>) -> Self {
        match strategy {
            Some(ArchiveStrategy { none: Some(_), .. }) => Self::None,
            Some(ArchiveStrategy { tar: Some(_), .. }) => Self::Tar,
            Some(ArchiveStrategy { zip: Some(_), .. }) => Self::Zip,
            _ => Self::Detect,
        }
    }
}

/// An error about the content of an archive.
fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
