//! How artifacts are packed: Argo's `archive`.

mod entries;
mod read;
mod target;
mod write;

use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use read::{is_tar_gz, untar, unzip};
pub(crate) use write::{tar_gz, zip};

/// `archive` of an artifact (`ArchiveStrategy` in Argo's `workflow_types.go`). Where several keys are set, the first of these counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArchiveStrategy {
    /// As it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none: Option<Empty>,
    /// A tar archive in gzip.
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
    /// Of gzip, as Go has it: 0 (none) to 9 (the smallest), -1 for the default, -2 for the fastest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
}

/// How an artifact is packed when it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pack {
    /// As it is: a directory is an object for each file.
    None,
    /// A tar archive in gzip of this level, 0 to 9.
    Tar(u32),
    /// A zip archive.
    Zip,
}

/// How an artifact is unpacked when it is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unpack {
    /// As it is.
    None,
    /// A tar archive.
    Tar,
    /// A zip archive.
    Zip,
    /// A tar archive if it looks like one in gzip, else as it is.
    Detect,
}

impl Pack {
    /// As Argo's executor chooses it: without a strategy a tar archive in gzip, and with an empty one that without compression.
    ///
    /// # Errors
    ///
    /// The level, which is none of gzip's.
    pub fn of(strategy: Option<&ArchiveStrategy>) -> Result<Self, i32> {
        match strategy {
            None => Ok(Self::Tar(6)),
            Some(ArchiveStrategy { none: Some(_), .. }) => Ok(Self::None),
            Some(ArchiveStrategy { zip: Some(_), .. }) => Ok(Self::Zip),
            Some(ArchiveStrategy { tar, .. }) => {
                match tar.map(|tar| tar.compression_level.unwrap_or(-1)) {
                    None => Ok(Self::Tar(0)),
                    Some(-1) => Ok(Self::Tar(6)),
                    Some(-2) => Ok(Self::Tar(1)),
                    Some(level @ 0..=9) => Ok(Self::Tar(level.unsigned_abs())),
                    Some(level) => Err(level),
                }
            }
        }
    }

    /// What Argo calls the object of an artifact that has no key of its own.
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
    /// As Argo's executor chooses it.
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
