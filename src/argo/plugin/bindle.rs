//! The key `module.bindle`: a bindle on a Bindle server.

use schemars::JsonSchema;
use serde::Deserialize;
use sources::reference::BindleReference;
use sources::{Error, Reference};

use super::string_or_map::string_or_map;

/// `module.bindle`: the id of a bindle, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Bindle {
    /// The id of a bindle, such as `acme.dev/resize/1.4.0`.
    Id(String),
    /// The id of a bindle, with a server or a parcel.
    Detailed(BindleDetailed),
}

string_or_map!(Bindle, Id, Bindle::Detailed, "an id, or a map with `id`");

/// `module.bindle` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BindleDetailed {
    /// Id of the bindle.
    id: String,
    /// Host of the server, or URL of its API. Default: the operator's server.
    server: Option<String>,
    /// Name or SHA-256 of one of several parcels.
    parcel: Option<String>,
}

impl Bindle {
    pub(super) fn reference(&self) -> Result<Reference, Error> {
        match self {
            Self::Id(id) => parse(id),
            Self::Detailed(detailed) => detailed.reference(),
        }
        .map(Reference::from)
    }
}

impl BindleDetailed {
    fn reference(&self) -> Result<BindleReference, Error> {
        Ok(parse(&self.id)?
            .with_server(self.server.as_deref())?
            .with_parcel(self.parcel.clone()))
    }
}

fn parse(text: &str) -> Result<BindleReference, Error> {
    BindleReference::parse(text.strip_prefix("bindle://").unwrap_or(text))
}
