//! Artifacts in a template: where their content is, or is to be, and how it is packed.

use artifacts::archive::{ArchiveStrategy, Pack, Unpack};
use artifacts::http_store::HttpLocation;
use artifacts::repository::alternative_to;
use artifacts::s3::S3Location;
use artifacts::transfer::Mode;
use artifacts::{Location, Repository};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::convert::Placement;
use crate::step::GuestPath;
use crate::step::{Content, DefaultPlace};
use crate::text::DocumentError;

/// An artifact as Argo writes it, with the one location that it may have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Where the guest sees it, or leaves it.
    pub path: Option<String>,
    /// Whether it may be missing.
    #[serde(default)]
    pub optional: Option<bool>,
    /// How it is packed; nothing means a gzipped tar for outputs, and for inputs whatever it looks like.
    pub archive: Option<ArchiveStrategy>,
    /// The permissions of an input, 0 to 511 (octal 777).
    pub mode: Option<u32>,
    /// Whether `mode` is for everything in a directory.
    pub recurse_mode: Option<bool>,
    /// The name it is exported under, if it is.
    pub global_name: Option<String>,
    /// Kept and given back.
    #[serde(rename = "artifactGC")]
    pub artifact_gc: Option<Value>,
    /// Whether Argo deleted its content already.
    pub deleted: Option<bool>,
    raw: Option<Raw>,
    s3: Option<S3Location>,
    http: Option<HttpLocation>,
    /// Everything else, among it the kinds that are not supported.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// `archiveLocation` of a template: where its artifacts go that name no place.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveLocation {
    /// Whether what the step prints is kept as an artifact.
    pub archive_logs: Option<bool>,
    s3: Option<S3Location>,
    /// Everything else, among it the kinds that are not supported.
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct Raw {
    data: String,
}

fn check_kind(others: &Map<String, Value>, at: &str) -> Result<(), DocumentError> {
    let kinds = [
        "git",
        "gcs",
        "azure",
        "oss",
        "hdfs",
        "artifactory",
        "plugin",
    ];
    match kinds
        .into_iter()
        .find(|kind| others.get(*kind).is_some_and(|value| !value.is_null()))
    {
        Some(kind) => {
            let message = format!(
                "artifacts of the kind `{kind}` are not supported; {}",
                alternative_to(kind)
            );
            Err(DocumentError::new(at, message))
        }
        None => Ok(()),
    }
}

/// Where it is, if everything is said that is needed for that.
fn whole(s3: &S3Location) -> Option<Location> {
    let repository = || Repository::S3(Box::new(s3.without_keys()));
    s3.has_location().then(|| Location {
        repository: repository(),
        key: s3.key.clone(),
        default: false,
    })
}

pub(super) fn check(location: &Location, at: &str) -> Result<(), DocumentError> {
    location
        .check()
        .map_err(|error| DocumentError::new(at, error.to_string()))
}

impl ArchiveLocation {
    /// The place, where the template names a whole one.
    pub(super) fn place(&self, at: &str) -> Result<Option<Location>, DocumentError> {
        check_kind(&self.others, at)?;
        Ok(self.s3.as_ref().and_then(whole))
    }
}

impl Artifact {
    fn whole(&self) -> Option<Location> {
        match (&self.s3, &self.http) {
            (Some(s3), _) => whole(s3),
            (None, Some(http)) => {
                let repository = Repository::Http(Box::new(http.clone()));
                Some(Location {
                    repository,
                    key: String::new(),
                    default: false,
                })
            }
            (None, None) => None,
        }
    }

    /// Whether it says itself where it is.
    pub(super) fn names_a_place(&self) -> bool {
        self.whole().is_some() || self.key().is_some()
    }

    /// A key without a place.
    fn key(&self) -> Option<&str> {
        self.s3
            .as_ref()
            .map(|s3| s3.key.as_str())
            .filter(|key| !key.is_empty())
    }

    /// Where an input's content is; `None` for an optional one that was not supplied.
    pub(super) fn content(
        &self,
        at: &str,
        placement: &Placement,
    ) -> Result<Option<Content>, DocumentError> {
        check_kind(&self.others, at)?;
        let raw = self.raw.as_ref().map(|raw| Content::Raw(raw.data.clone()));
        if let Some(supplied) = placement.supplied.get(&self.name) {
            return Ok(Some(Content::Stored(supplied.clone())));
        }
        // What else a workflow's own repository and Secrets would lead to is not on this machine.
        let url = || {
            self.http
                .as_ref()
                .filter(|_| self.s3.is_none())
                .and_then(|_| self.whole())
                .map(Content::Stored)
        };
        if placement.personal {
            return Ok(raw.or_else(url));
        }
        if self.deleted == Some(true) && raw.is_none() {
            return Err(DocumentError::new(
                at,
                "the artifact's content was deleted: its `artifactGC` says when",
            ));
        }
        let location = match (raw, self.whole(), self.key()) {
            (Some(raw), ..) => return Ok(Some(raw)),
            (None, Some(location), _) => location,
            (None, None, Some(key)) => placement.place(at)?.at(key),
            (None, None, None) => return Ok(None),
        };
        check(&location, at)?;
        Ok(Some(Content::Stored(location)))
    }

    /// How an input is unpacked.
    pub(super) fn unpack(&self, placement: &Placement) -> Unpack {
        match placement.supplied.contains_key(&self.name) {
            true => Unpack::None,
            false => Unpack::of(self.archive.as_ref()),
        }
    }

    /// Permissions of an input: `mode` and `recurseMode`.
    pub(super) fn permissions(&self, at: &str) -> Result<Option<Mode>, DocumentError> {
        match self.mode {
            Some(mode) if mode > 0o777 => Err(DocumentError::new(
                format!("{at}.mode"),
                "must be a number from 0 to 511 (octal 777)",
            )),
            bits => Ok(bits.map(|bits| Mode {
                bits,
                recursive: self.recurse_mode == Some(true),
            })),
        }
    }

    /// Where an output goes, and how it is packed: under its own key, or under one of this execution's.
    pub(super) fn destination(
        &self,
        at: &str,
        path: &GuestPath,
        placement: &Placement,
    ) -> Result<(Location, Pack), DocumentError> {
        check_kind(&self.others, at)?;
        if self.raw.is_some() {
            return Err(DocumentError::new(
                format!("{at}.raw"),
                "an output cannot be `raw`; leave it out",
            ));
        }
        let pack = Pack::of(self.archive.as_ref()).map_err(|level| {
            let message = format!("must be a level of gzip, -1 to 9, and not {level}");
            DocumentError::new(format!("{at}.archive.tar.compressionLevel"), message)
        })?;
        // On one's own machine outputs are files with their names.
        if placement.personal {
            return Ok((placement.place(at)?.at(&self.name), Pack::None));
        }
        let location = match (self.whole(), self.key()) {
            (Some(location), _) => location,
            (None, Some(key)) => placement.place(at)?.at(key),
            (None, None) => placement
                .place(at)?
                .below(&pack.file_name(&self.name, path.relative())),
        };
        check(&location, at)?;
        Ok((location, pack))
    }
}

impl DefaultPlace {
    /// An object with this key.
    pub(super) fn at(&self, key: &str) -> Location {
        Location {
            repository: self.repository.clone(),
            key: key.to_owned(),
            default: self.default,
        }
    }

    /// An object of this execution.
    pub(super) fn below(&self, name: &str) -> Location {
        match self.key.as_str() {
            "" => self.at(name),
            key => self.at(&format!("{key}/{name}")),
        }
    }
}
