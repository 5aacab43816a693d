//! The surroundings of a template's artifacts: the default destination, and inputs from elsewhere.

use std::collections::BTreeMap;

use artifacts::Location;

use super::repository::DestinationLookup;
use crate::step::ArtifactDestination;
use crate::text::DocumentError;

/// Everything about the artifacts of a step that is not in its template.
#[derive(Clone, Debug, Default)]
pub struct ArtifactContext {
    /// The destination for artifacts without a complete location.
    pub destination: DestinationLookup,
    /// Locations that replace those of the template, by the name of the input artifact.
    pub supplied: BTreeMap<String, Location>,
    /// Whether the command `run` runs the step on a developer's own machine.
    ///
    /// Artifact locations in the template are then ignored, and each output is written to a file
    /// with the name of the artifact. The template is checked as by `serve`.
    pub local: bool,
}

impl ArtifactContext {
    /// The destination, which the artifact at the path `at` needs.
    ///
    /// # Errors
    ///
    /// There is no artifact repository, or it could not be read.
    pub(super) fn destination(&self, at: &str) -> Result<&ArtifactDestination, DocumentError> {
        match &self.destination {
            DestinationLookup::Known(destination) => Ok(destination),
            DestinationLookup::Unavailable(error) => Err(DocumentError::new(at, error.to_string())),
            DestinationLookup::Unknown => Err(DocumentError::new(
                at,
                "no artifact repository is known; the operator must set `artifacts.repository`, \
                 or allow the plugin to read Workflows",
            )),
        }
    }

    /// The destination, if it is known.
    pub(super) fn known_destination(&self) -> Option<&ArtifactDestination> {
        match &self.destination {
            DestinationLookup::Known(destination) => Some(destination),
            DestinationLookup::Unavailable(_) | DestinationLookup::Unknown => None,
        }
    }
}

impl ArtifactDestination {
    /// The object with this key, without the prefix of the execution.
    pub(super) fn object(&self, key: &str) -> Location {
        Location {
            repository: self.repository.clone(),
            key: key.to_owned(),
            default: self.default,
        }
    }

    /// The object with this name below the prefix of the execution.
    pub(super) fn own_object(&self, name: &str) -> Location {
        match self.key.as_str() {
            "" => self.object(name),
            prefix => self.object(&format!("{prefix}/{name}")),
        }
    }
}
