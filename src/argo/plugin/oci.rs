//! The key `module.oci`: a module in an OCI registry.

use schemars::JsonSchema;
use serde::Deserialize;
use sources::reference::{OciReference, Select};
use sources::{Error, ErrorKind, Reference};

use super::string_or_map::string_or_map;

/// `module.oci`: a reference, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Oci {
    /// A reference such as `ghcr.io/acme/resize:1.4.0`, with a tag, a digest (`@sha256:…`) or both.
    Reference(String),
    /// A reference, and a choice of one of its modules.
    Selected(OciSelected),
}

string_or_map!(
    Oci,
    Reference,
    Oci::Selected,
    "a reference, or a map with `ref`"
);

/// `module.oci` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OciSelected {
    /// The reference, with a tag, a digest or both.
    #[serde(rename = "ref")]
    reference: String,
    /// Path of the module in an image with several modules.
    path: Option<String>,
    /// Digest, title or number of a layer of an artifact with several layers, or the name of a
    /// component of a Spin application.
    layer: Option<String>,
}

impl Oci {
    pub(super) fn reference(&self) -> Result<Reference, Error> {
        match self {
            Self::Reference(reference) => parse(reference),
            Self::Selected(selected) => selected.reference(),
        }
        .map(Reference::from)
    }
}

impl OciSelected {
    fn reference(&self) -> Result<OciReference, Error> {
        let reference = parse(&self.reference)?;
        match (&self.path, &self.layer) {
            (Some(path), None) => Ok(reference.with_select(Select::Path(path.clone()))),
            (None, Some(layer)) => Ok(reference.with_select(Select::Layer(layer.clone()))),
            (None, None) => Ok(reference),
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::InvalidReference,
                "give `path` or `layer`, not both",
            )),
        }
    }
}

fn parse(text: &str) -> Result<OciReference, Error> {
    OciReference::parse(text.strip_prefix("oci://").unwrap_or(text))
}
