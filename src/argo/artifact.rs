//! Artifacts of a template: where their content is, and how it is packed.

use artifacts::archive::{ArchiveStrategy, Pack, Unpack};
use artifacts::http_store::HttpLocation;
use artifacts::s3::S3Location;
use artifacts::transfer::Mode;
use artifacts::{Location, Repository};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::artifact_context::ArtifactContext;
use super::unsupported_kinds::UnsupportedKinds;
use crate::step::{Content, GuestPath};
use crate::text::DocumentError;

/// The highest permissions of a file, octal 777.
const MAX_MODE: u32 = 0o777;

/// An artifact in Argo's format, with at most one location.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Name of the artifact, unique among the inputs or the outputs of the template.
    pub name: String,
    /// Path at which the guest finds an input, or writes an output.
    pub path: Option<String>,
    /// Whether the step runs without the input, or succeeds without the output.
    #[serde(default)]
    pub optional: Option<bool>,
    /// How the artifact is packed. Without it, an output is stored as a gzipped tar archive, and
    /// an input is unpacked if it looks like one.
    pub archive: Option<ArchiveStrategy>,
    /// Permissions of an input, from 0 to 511 (octal 777).
    pub mode: Option<u32>,
    /// Whether `mode` applies to everything in a directory.
    pub recurse_mode: Option<bool>,
    /// Name under which the workflow exports the output.
    pub global_name: Option<String>,
    /// Argo's garbage collection for the output. The executor returns it to Argo unchanged.
    #[serde(rename = "artifactGC")]
    pub artifact_gc: Option<Value>,
    /// Whether Argo's garbage collection has deleted the content.
    pub deleted: Option<bool>,
    raw: Option<Raw>,
    s3: Option<S3Location>,
    http: Option<HttpLocation>,
    #[serde(flatten)]
    unsupported: UnsupportedKinds,
}

/// `archiveLocation` of a template: the location for artifacts that name none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveLocation {
    /// Whether the module's standard output and standard error are stored as an artifact.
    pub archive_logs: Option<bool>,
    s3: Option<S3Location>,
    #[serde(flatten)]
    unsupported: UnsupportedKinds,
}

/// `raw`: the content itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct Raw {
    /// The content, as text.
    data: String,
}

/// The location that an artifact names.
enum NamedLocation {
    /// A location that needs nothing else.
    Complete(Location),
    /// A key in the workflow's own repository.
    Key(String),
    /// The artifact names no location.
    None,
}

/// The location that `s3` names, if it names endpoint, bucket and key.
fn complete(s3: &S3Location) -> Option<Location> {
    s3.has_location().then(|| Location {
        repository: Repository::S3(Box::new(s3.without_keys())),
        key: s3.key.clone(),
        default: false,
    })
}

/// Refuses a location that cannot be used, such as a bucket with an impossible name.
pub(super) fn check_location(location: &Location, at: &str) -> Result<(), DocumentError> {
    location
        .check()
        .map_err(|error| DocumentError::new(at, error.describe()))
}

impl ArchiveLocation {
    /// The location, if the template names a complete one.
    pub(super) fn location(&self, at: &str) -> Result<Option<Location>, DocumentError> {
        self.unsupported.check(at)?;
        Ok(self.s3.as_ref().and_then(complete))
    }
}

impl Artifact {
    fn named_location(&self) -> NamedLocation {
        match (&self.s3, &self.http) {
            (Some(s3), _) => match complete(s3) {
                Some(location) => NamedLocation::Complete(location),
                None if s3.key.is_empty() => NamedLocation::None,
                None => NamedLocation::Key(s3.key.clone()),
            },
            (None, Some(http)) => NamedLocation::Complete(Location {
                repository: Repository::Http(Box::new(http.clone())),
                key: String::new(),
                default: false,
            }),
            (None, None) => NamedLocation::None,
        }
    }

    /// Whether the template names the location of the artifact, at least with a key.
    pub(super) fn names_location(&self) -> bool {
        !matches!(self.named_location(), NamedLocation::None)
    }

    /// Content of an input. `None` if the input was not supplied.
    pub(super) fn content(
        &self,
        at: &str,
        context: &ArtifactContext,
    ) -> Result<Option<Content>, DocumentError> {
        self.unsupported.check(at)?;
        if let Some(supplied) = context.supplied.get(&self.name) {
            return Ok(Some(Content::Stored(supplied.clone())));
        }
        if let Some(raw) = &self.raw {
            return Ok(Some(Content::Raw(raw.data.clone())));
        }
        let location = self.named_location();
        if context.local {
            // A bucket or a key needs the workflow's repository and Secrets, which only a cluster
            // has. A URL works everywhere.
            return Ok(match location {
                NamedLocation::Complete(url) if self.s3.is_none() => Some(Content::Stored(url)),
                _ => None,
            });
        }
        if self.deleted == Some(true) {
            return Err(DocumentError::new(
                at,
                "Argo's garbage collection has deleted the content of this artifact; \
                 check the `artifactGC` of the output",
            ));
        }
        let location = match location {
            NamedLocation::Complete(location) => location,
            NamedLocation::Key(key) => context.destination(at)?.object(&key),
            NamedLocation::None => return Ok(None),
        };
        check_location(&location, at)?;
        Ok(Some(Content::Stored(location)))
    }

    /// How an input is unpacked. A file that the user supplied is used as it is.
    pub(super) fn unpack(&self, context: &ArtifactContext) -> Unpack {
        match context.supplied.contains_key(&self.name) {
            true => Unpack::None,
            false => Unpack::of(self.archive.as_ref()),
        }
    }

    /// Permissions of an input: `mode` and `recurseMode`.
    pub(super) fn permissions(&self, at: &str) -> Result<Option<Mode>, DocumentError> {
        match self.mode {
            Some(mode) if mode > MAX_MODE => Err(DocumentError::new(
                format!("{at}.mode"),
                "must be a number from 0 to 511 (octal 777)",
            )),
            bits => Ok(bits.map(|bits| Mode {
                bits,
                recursive: self.recurse_mode == Some(true),
            })),
        }
    }

    /// How an output is packed. `run` writes outputs as plain files.
    pub(super) fn pack(&self, at: &str, context: &ArtifactContext) -> Result<Pack, DocumentError> {
        let pack = Pack::of(self.archive.as_ref()).map_err(|error| {
            let at = format!("{at}.archive.tar.compressionLevel");
            DocumentError::new(at, error.to_string())
        })?;
        Ok(if context.local { Pack::None } else { pack })
    }

    /// Location of an output at `path` that is packed as `pack`.
    ///
    /// An output that names no location gets a key of its own for each execution.
    pub(super) fn output_location(
        &self,
        at: &str,
        path: &GuestPath,
        pack: Pack,
        context: &ArtifactContext,
    ) -> Result<Location, DocumentError> {
        if context.local {
            return Ok(context.destination(at)?.object(&self.name));
        }
        let location = match self.named_location() {
            NamedLocation::Complete(location) => location,
            NamedLocation::Key(key) => context.destination(at)?.object(&key),
            NamedLocation::None => {
                let name = pack.file_name(&self.name, path.relative());
                context.destination(at)?.own_object(&name)
            }
        };
        check_location(&location, at)?;
        Ok(location)
    }

    /// Refuses a location that an output cannot have.
    pub(super) fn check_output(&self, at: &str) -> Result<(), DocumentError> {
        self.unsupported.check(at)?;
        match &self.raw {
            Some(_) => Err(DocumentError::new(
                format!("{at}.raw"),
                "an output cannot be `raw`; remove this key",
            )),
            None => Ok(()),
        }
    }
}
