//! Input artifacts of a step.

use artifacts::Location;
use artifacts::archive::Unpack;
use artifacts::transfer::Mode;
use serde::{Deserialize, Serialize};

use super::GuestPath;

/// An input artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputArtifact {
    /// Name of the artifact, unique among the inputs.
    pub name: String,
    /// Path at which the guest sees the artifact.
    pub path: GuestPath,
    /// Where the content is. `None` for an optional artifact that was not supplied.
    pub content: Option<Content>,
    /// How the content is unpacked.
    pub unpack: Unpack,
    /// Permissions of the artifact. `None` leaves them as they are.
    pub mode: Option<Mode>,
    /// Whether the step runs without the artifact when its content does not exist.
    pub optional: bool,
}

/// Content of an input artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// An object in an artifact store.
    Stored(Location),
    /// The content itself, from Argo's `raw`.
    Raw(String),
}
