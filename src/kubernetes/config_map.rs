//! The object `ConfigMap`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::resource::{Metadata, Resource};

/// A `ConfigMap`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    /// Metadata of the object.
    pub metadata: Metadata,
    /// Texts, by key.
    pub data: BTreeMap<String, String>,
}

impl Resource for ConfigMap {
    const API: &'static str = "/api/v1";
    const KIND: &'static str = "ConfigMap";
    const PLURAL: &'static str = "configmaps";
    const OF_TENANT: bool = true;
}
