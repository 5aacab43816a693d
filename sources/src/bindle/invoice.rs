//! Invoices: what a bindle consists of, as the specification has it
//! (<https://github.com/deislabs/bindle/blob/main/docs/invoice-spec.md>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, ErrorKind};

/// An invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invoice {
    /// The version of the specification: `1.0.0`.
    pub bindle_version: String,
    /// Whether its author took it back.
    pub yanked: Option<bool>,
    /// The ids of signatures that yanked it. Newer than the specification.
    pub yanked_signature: Option<Vec<Signature>>,
    /// What it is.
    pub bindle: Bindle,
    /// Anything else.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The parts.
    pub parcel: Option<Vec<Parcel>>,
    /// Groups of parts.
    pub group: Option<Vec<Group>>,
    /// Who vouches for it.
    pub signature: Option<Vec<Signature>>,
}

/// `bindle`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bindle {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// For people.
    pub description: Option<String>,
    /// For people.
    pub authors: Option<Vec<String>>,
}

/// `parcel[]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parcel {
    /// What it is.
    pub label: Label,
    /// When it is needed.
    pub conditions: Option<Condition>,
}

/// `parcel[].label`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Label {
    /// The hex digits of its SHA-256.
    pub sha256: String,
    /// Its media type.
    pub media_type: String,
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Anything else.
    pub annotations: Option<BTreeMap<String, String>>,
    /// What it offers, by what offers are about: `feature.wasm.entrypoint`.
    pub feature: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// Where it came from.
    pub origin: Option<String>,
}

/// `parcel[].conditions`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// The groups that it is in; without any, it is always needed.
    pub member_of: Option<Vec<String>>,
    /// The groups that it needs.
    pub requires: Option<Vec<String>>,
}

/// `group[]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Whether it is always needed.
    pub required: Option<bool>,
    /// How many of its parcels are needed: `allOf`, `oneOf`, `optional` or `anyOf`.
    pub satisfied_by: Option<String>,
}

/// `signature[]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signature {
    /// Who signed, for people.
    pub by: String,
    /// The signature, base64.
    pub signature: String,
    /// The public key, base64.
    pub key: String,
    /// `creator`, `approver`, `host` or `proxy`.
    pub role: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl Label {
    /// The digest that its bytes must have.
    pub fn digest(&self) -> Result<Digest, Error> {
        let digest = format!("sha256:{}", self.sha256).parse();
        digest.map_err(|_| {
            Error::new(
                ErrorKind::Protocol,
                "a parcel's label has no proper SHA-256",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_errors() {
        assert!(
            toml::from_str::<Invoice>(
                "bindleVersion = '1.0.0'\nyankd = true\nbindle = {name = 'a', version = '1.0.0'}"
            )
            .is_err()
        );
    }
}
