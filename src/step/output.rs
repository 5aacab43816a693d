//! Outputs that a step declares, and where they are stored.

use artifacts::archive::Pack;
use artifacts::{Location, Repository};
use serde::{Deserialize, Serialize};

use super::GuestPath;

/// Where one execution stores artifacts that name no location themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactDestination {
    /// The artifact store.
    pub repository: Repository,
    /// Prefix of the keys of this execution's outputs, without a slash at the end. No other
    /// execution has the prefix.
    pub key: String,
    /// Whether the store is the workflow's own, so that a key alone is enough to find an object.
    pub default: bool,
    /// Whether the output of modules is stored as the artifact `main-logs`.
    pub archive_logs: bool,
}

/// A declared output parameter. The value comes from the first of these that exists: `value`, the
/// value that the module reports, the file at `path`, `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputParameter {
    /// Name of the parameter, unique among the output parameters.
    pub name: String,
    /// A constant value from the template.
    pub value: Option<String>,
    /// Path of the file that holds the value.
    pub path: Option<GuestPath>,
    /// The value when the module gives none.
    pub default: Option<String>,
}

/// A declared output artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputArtifact {
    /// Name of the artifact, unique among the outputs.
    pub name: String,
    /// Path at which the module leaves the artifact.
    pub path: GuestPath,
    /// Whether the step succeeds without the artifact.
    pub optional: bool,
    /// Where the artifact is stored. No two outputs of a step have the same location.
    pub location: Location,
    /// How the artifact is packed.
    pub pack: Pack,
}
