//! The object `Lease`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/>).

use std::time::Duration;

use serde::Deserialize;

use crate::kubernetes::{Metadata, Resource};

/// A `Lease`, the Kubernetes object. Each replica has one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Lease {
    pub(in crate::cluster) metadata: Metadata,
    pub(in crate::cluster) spec: LeaseSpec,
}

/// `spec` of a `Lease`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct LeaseSpec {
    /// Id of the replica.
    pub(in crate::cluster) holder_identity: String,
    /// Time after which the replica is dead if it has not renewed the Lease, in seconds.
    pub(in crate::cluster) lease_duration_seconds: u64,
    /// Time of the last renewal (RFC 3339). Only for people: other clocks can differ.
    pub(in crate::cluster) renew_time: String,
}

/// The label with the TaskSets that the replica of a Lease serves, see
/// [`Identity`](super::Identity).
pub(super) const SERVES: &str = "wasm-workflow-executor/serves";

impl Lease {
    /// The TaskSets that the replica serves.
    pub(super) fn serves(&self) -> &str {
        let label = self.metadata.labels.get(SERVES);
        label.map_or("", String::as_str)
    }
}

/// The pod of a replica.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
}

impl Resource for Pod {
    const API: &'static str = "/api/v1";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
    const METADATA_ONLY: bool = true;
}

impl Resource for Lease {
    const API: &'static str = "/apis/coordination.k8s.io/v1";
    const KIND: &'static str = "Lease";
    const PLURAL: &'static str = "leases";
    /// Each replica renews its own Lease every ten seconds.
    const LONGEST_SILENCE: Duration = Duration::from_secs(30);
}
