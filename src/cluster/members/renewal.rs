//! Renews the Lease of this replica.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::lease::{Lease, Pod, SERVES};
use crate::kubernetes::{ApiError, Kubernetes, KubernetesError};

/// Time between two renewals.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time between two attempts, after one that failed.
const RETRY: Duration = Duration::from_secs(2);
/// The watch of Leases is alive if it reports a change at least this often: this replica renews its
/// own Lease.
pub(in crate::cluster) const LONGEST_GAP: Duration = Duration::from_secs(25);

/// Names of a replica.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Identity {
    /// Id of the replica: the uid of its pod.
    pub replica: String,
    /// Name of its pod, if it runs in one. The Lease is deleted with the pod.
    pub pod: Option<String>,
    /// Namespace of the pod and of the Lease.
    pub namespace: String,
    /// The TaskSets that the replica serves, as a label value. Replicas with the same text share
    /// TaskSets.
    pub serves: String,
    /// Time after which the other replicas take the TaskSets of a replica that is silent.
    pub duration: Duration,
    /// Time since the last renewal after which this replica must be silent.
    pub fence_after: Duration,
}

/// Whether this replica holds its Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Held {
    /// The Lease has not been renewed yet.
    NotYet,
    /// The last renewal began at this time.
    Since(Instant),
    /// The Lease was deleted, or not renewed in time: other replicas may serve the TaskSets.
    Lost,
}

impl Held {
    /// Whether the Lease is lost at this time.
    pub(in crate::cluster) fn is_lost(self, now: Instant, fence_after: Duration) -> bool {
        match self {
            Self::NotYet => false,
            Self::Since(renewed) => now.saturating_duration_since(renewed) >= fence_after,
            Self::Lost => true,
        }
    }
}

/// Why a Lease was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error("the Lease was deleted")]
    Deleted,
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("{0}")]
    Pod(#[from] KubernetesError),
    #[error(
        "the pod `{pod}` has the uid `{uid}`, and this replica has the id `{replica}`: set \
         WASM_WORKFLOW_REPLICA to the pod's `metadata.uid`"
    )]
    OtherPod {
        pod: String,
        uid: String,
        replica: String,
    },
}

/// Renews a Lease.
#[derive(Debug)]
pub(in crate::cluster) struct Renewal {
    kubernetes: Kubernetes,
    identity: Identity,
    renewed: watch::Sender<Held>,
    /// Whether the id of the replica was compared with the uid of the pod.
    is_checked: bool,
}

impl Identity {
    /// Name of the Lease.
    fn lease(&self) -> String {
        match &self.pod {
            Some(pod) => pod.clone(),
            None => format!("wasm-workflow-executor-{}", self.replica.to_lowercase()),
        }
    }

    /// The `spec` of the Lease.
    fn spec(&self, now: Timestamp) -> Value {
        json!({
            "holderIdentity": self.replica,
            "leaseDurationSeconds": self.duration.as_secs(),
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        })
    }

    fn labels(&self) -> Value {
        json!({LABEL: LABEL_VALUE, SERVES: self.serves})
    }

    /// The Lease, for its creation.
    fn object(&self, now: Timestamp) -> Value {
        let owners: Vec<Value> = self
            .pod
            .iter()
            .map(|pod| json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": self.replica}))
            .collect();
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": self.lease(),
                "labels": self.labels(),
                "ownerReferences": owners,
            },
            "spec": self.spec(now),
        })
    }
}

/// The label of the Leases of all replicas.
const LABEL: &str = "app.kubernetes.io/name";
const LABEL_VALUE: &str = "wasm-workflow-executor";

impl Renewal {
    /// Makes a renewal, and the state of the Lease.
    pub(in crate::cluster) fn new(
        kubernetes: Kubernetes,
        identity: Identity,
    ) -> (Self, watch::Receiver<Held>) {
        let (renewed, received) = watch::channel(Held::NotYet);
        let renewal = Self {
            kubernetes,
            identity,
            renewed,
            is_checked: false,
        };
        (renewal, received)
    }

    /// Label selector of the Leases of all replicas.
    pub(in crate::cluster) fn labels() -> String {
        format!("{LABEL}={LABEL_VALUE}")
    }

    /// Renews the Lease until the receiver of the state is dropped. Then deletes the Lease, so that
    /// the other replicas do not wait. A Lease that was lost is not renewed.
    pub(in crate::cluster) async fn run(mut self) {
        while !self.renewed.is_closed() {
            // The time before the request: the Lease is at least as new.
            let begun = Instant::now();
            let held = *self.renewed.borrow();
            if held.is_lost(begun, self.identity.fence_after) {
                self.renewed.send_replace(Held::Lost);
                return;
            }
            let pause = match self.renew(held).await {
                Ok(()) => {
                    self.renewed.send_replace(Held::Since(begun));
                    INTERVAL
                }
                Err(RenewalError::Deleted) => {
                    self.renewed.send_replace(Held::Lost);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the Lease of this replica is not renewed; tried again");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.renewed.closed() => {}
            }
        }
        let Identity { namespace, .. } = &self.identity;
        let name = self.identity.lease();
        if let Err(error) = self.kubernetes.delete::<Lease>(namespace, &name).await {
            tracing::info!(%error, "the Lease of this replica is not deleted: it ends by itself");
        }
    }

    /// Compares the pod's uid with the id of the replica. Kubernetes deletes a Lease whose owner
    /// does not exist, and the other replicas would take the TaskSets.
    async fn check_pod(&self) -> Result<(), RenewalError> {
        let Identity {
            replica, namespace, ..
        } = &self.identity;
        let Some(pod) = &self.identity.pod else {
            return Ok(());
        };
        let found = self.kubernetes.get::<Pod>(namespace, pod).await?;
        if found.metadata.uid != *replica {
            return Err(RenewalError::OtherPod {
                pod: pod.clone(),
                uid: found.metadata.uid,
                replica: replica.clone(),
            });
        }
        Ok(())
    }

    async fn renew(&mut self, held: Held) -> Result<(), RenewalError> {
        if !self.is_checked {
            self.check_pod().await?;
            self.is_checked = true;
        }
        let Identity { namespace, .. } = &self.identity;
        let now = Timestamp::now();
        let identity = &self.identity;
        let patch = json!({
            "metadata": {"labels": identity.labels()},
            "spec": identity.spec(now),
        });
        let name = self.identity.lease();
        let renewed = self
            .kubernetes
            .patch::<Lease>(namespace, &name, None, &patch);
        match renewed.await {
            // The other replicas take the TaskSets of this one as soon as they see this.
            Err(error) if error.code() == Some(404) && held != Held::NotYet => {
                return Err(RenewalError::Deleted);
            }
            Err(error) if error.code() == Some(404) => {
                let object = identity.object(now);
                self.kubernetes.create::<Lease>(namespace, &object).await?;
            }
            renewed => drop(renewed?),
        }
        Ok(())
    }
}
