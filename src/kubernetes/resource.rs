//! Kinds of objects, and the metadata that they share.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An object in a namespace that [`Kubernetes::get`](super::Kubernetes::get) can read.
///
/// The type has only the fields that the executor uses.
pub trait Resource: DeserializeOwned {
    /// Path of the API group and version, such as `/api/v1`.
    const API: &'static str;
    /// Kind of the object, as errors name it: `Secret`.
    const KIND: &'static str;
    /// Name of the resource in paths: `secrets`.
    const PLURAL: &'static str;
}

/// `metadata` of an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique id of the object; a later object with the same name has another one.
    pub uid: String,
    /// Time of creation (RFC 3339).
    pub creation_timestamp: String,
    /// Labels, by name.
    pub labels: BTreeMap<String, String>,
    /// Annotations, by name.
    pub annotations: BTreeMap<String, String>,
}
