//! Invoices: the manifests of bindles
//! (<https://github.com/deislabs/bindle/blob/main/docs/invoice-spec.md>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, ErrorKind};

/// An invoice: the metadata and the parcels of one version of a bindle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invoice {
    /// The version of the specification: `1.0.0`.
    pub bindle_version: String,
    /// Whether the author yanked this version.
    pub yanked: Option<bool>,
    /// Signatures of the yank. Not in the specification, but servers send the field.
    pub yanked_signature: Option<Vec<Signature>>,
    /// Name, version and description of the bindle.
    pub bindle: Bindle,
    /// Annotations, which are ignored here.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The parcels of the bindle.
    pub parcel: Option<Vec<Parcel>>,
    /// The groups of parcels.
    pub group: Option<Vec<Group>>,
    /// The signatures of the invoice.
    pub signature: Option<Vec<Signature>>,
}

/// `bindle`: name, version and description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bindle {
    /// Name of the bindle, for example `example.com/hello`.
    pub name: String,
    /// Version of the bindle, a semantic version.
    pub version: String,
    /// Description for readers.
    pub description: Option<String>,
    /// Names of the authors, for readers.
    pub authors: Option<Vec<String>>,
}

/// `parcel[]`: one blob of the bindle, with the conditions of its use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parcel {
    /// Digest, name and type of the blob.
    pub label: Label,
    /// Groups that decide whether the parcel is needed.
    pub conditions: Option<Condition>,
}

/// `parcel[].label`: the descriptor of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Label {
    /// SHA-256 of the blob in hexadecimal.
    pub sha256: String,
    /// Media type of the blob.
    pub media_type: String,
    /// Name of the parcel.
    pub name: String,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Annotations, which are ignored here.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Features of the parcel, by section and name: `feature.wasm.entrypoint`.
    pub feature: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// The bindle that the parcel was copied from.
    pub origin: Option<String>,
}

/// `parcel[].conditions`: the groups of a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Names of the groups with this parcel. A parcel in no group is always needed.
    pub member_of: Option<Vec<String>>,
    /// Names of the groups that the parcel requires.
    pub requires: Option<Vec<String>>,
}

/// `group[]`: a group of parcels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// Whether the group is always required.
    pub required: Option<bool>,
    /// How many parcels of the group are needed: `allOf`, `oneOf`, `optional` or `anyOf`.
    pub satisfied_by: Option<String>,
}

/// `signature[]`: a signature of the invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signature {
    /// Name of the signer, for example `Ada <ada@example.com>`.
    pub by: String,
    /// The Ed25519 signature in base64.
    pub signature: String,
    /// The public key in base64.
    pub key: String,
    /// Role of the signer: `creator`, `approver`, `host` or `proxy`.
    pub role: String,
    /// Time of the signature in seconds since 1970.
    pub at: u64,
}

impl Label {
    /// The digest of the blob.
    ///
    /// # Errors
    ///
    /// `sha256` is malformed.
    pub fn digest(&self) -> Result<Digest, Error> {
        let digest = format!("sha256:{}", self.sha256).parse();
        digest.map_err(|_| {
            Error::new(
                ErrorKind::Protocol,
                "the label of a parcel has a malformed SHA-256",
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
