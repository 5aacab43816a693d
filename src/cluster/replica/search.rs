//! The search for TaskSets of dead replicas.

use crate::argo::task_set::TaskSetMetadata;
use crate::cluster::members::Lease;
use crate::cluster::target::Target;
use crate::kubernetes::{ApiError, Kubernetes, Selection};

/// TaskSets whose owners seemed to be dead, and then all Leases.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sets: Vec<Target>,
    pub(super) leases: Vec<Lease>,
}

/// Lists TaskSets, and then Leases. A replica makes its Lease before it claims. So the owner of
/// each TaskSet has a Lease in the list, or it has ended.
pub(super) async fn find(
    kubernetes: &Kubernetes,
    sets: &Selection,
    leases: &Selection,
) -> Result<Found, ApiError> {
    let sets = kubernetes.list::<TaskSetMetadata>(sets).await?;
    let leases = kubernetes.list::<Lease>(leases).await?;
    let targets = sets.iter().map(|set| Target::of(&set.object.metadata));
    Ok(Found {
        sets: targets.collect(),
        leases: leases.into_iter().map(|lease| lease.object).collect(),
    })
}
