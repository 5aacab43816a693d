//! Kinds of objects, and the metadata that they share.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An object in a namespace that [`Kubernetes`](super::Kubernetes) can read, watch and patch.
///
/// The type has only the fields that the executor uses.
pub trait Resource: DeserializeOwned {
    /// Path of the API group and version, such as `/api/v1`.
    const API: &'static str;
    /// Kind of the object, as errors name it: `Secret`.
    const KIND: &'static str;
    /// Name of the resource in paths: `secrets`.
    const PLURAL: &'static str;
    /// Whether the type has only the metadata of the object. The API server then sends only the
    /// metadata: `PartialObjectMetadata` of `meta.k8s.io/v1`.
    const METADATA_ONLY: bool = false;
    /// A watch that is silent for longer is dead. The server sends a bookmark about each minute,
    /// and ends a watch after four minutes.
    const LONGEST_SILENCE: Duration = Duration::from_secs(250);
    /// Whether the objects are read with the rights of their namespace's own service account, if
    /// the client [acts for tenants](super::Kubernetes::acting_for_tenants).
    const OF_TENANT: bool = false;
}

/// An object as the API server has it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The object.
    pub object: T,
    /// Size of the object as JSON, in bytes. The API server limits this size.
    pub bytes: usize,
}

impl<T: Resource> Stored<T> {
    /// Parses the JSON of an object.
    pub(super) fn parse(json: &[u8]) -> Result<Self, go_json::Error> {
        Ok(Self {
            object: go_json::from_slice(json)?,
            bytes: json.len(),
        })
    }
}

/// `metadata.resourceVersion`: the version of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(String);

impl Version {
    /// Whether this version is older than `other`. Versions of objects of one kind are numbers, see
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>. False if a
    /// version is not a number.
    pub fn is_older_than(&self, other: &Self) -> bool {
        match (self.0.parse::<u128>(), other.0.parse::<u128>()) {
            (Ok(own), Ok(other)) => own < other,
            _ => false,
        }
    }
}

impl From<&str> for Version {
    fn from(version: &str) -> Self {
        Self(version.to_owned())
    }
}

/// `metadata` of an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name of the object.
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Unique id of the object; a later object with the same name has another one.
    pub uid: String,
    /// Version of the object. Each change of the object makes a new version.
    pub resource_version: Version,
    /// Number of changes of `spec`.
    pub generation: i64,
    /// Time of creation (RFC 3339).
    pub creation_timestamp: String,
    /// Time at which the object was deleted (RFC 3339), if it waits for its finalizers.
    pub deletion_timestamp: String,
    /// The objects that this object belongs to.
    pub owner_references: Vec<OwnerReference>,
    /// Labels, by name.
    pub labels: BTreeMap<String, String>,
    /// Annotations, by name.
    pub annotations: BTreeMap<String, String>,
}

/// `metadata.ownerReferences[]` of an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// API group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner. The owner is in the same namespace, or in no namespace.
    pub name: String,
    /// Unique id of the owner.
    pub uid: String,
}
