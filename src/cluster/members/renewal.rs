//! Renews the Lease of this replica.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::lease::Lease;
use crate::kubernetes::{ApiError, Kubernetes};

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
    /// Time after which the other replicas take the TaskSets of a replica that is silent.
    pub duration: Duration,
}

/// Renews a Lease.
#[derive(Debug)]
pub(in crate::cluster) struct Renewal {
    kubernetes: Kubernetes,
    identity: Identity,
    renewed: watch::Sender<Option<Instant>>,
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
                "labels": {LABEL: LABEL_VALUE},
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
    /// Makes a renewal, and the time of its last success.
    pub(in crate::cluster) fn new(
        kubernetes: Kubernetes,
        identity: Identity,
    ) -> (Self, watch::Receiver<Option<Instant>>) {
        let (renewed, received) = watch::channel(None);
        let renewal = Self {
            kubernetes,
            identity,
            renewed,
        };
        (renewal, received)
    }

    /// Label selector of the Leases of all replicas.
    pub(in crate::cluster) fn labels() -> String {
        format!("{LABEL}={LABEL_VALUE}")
    }

    /// Renews the Lease until the receiver of the times is dropped. Then deletes the Lease, so that
    /// the other replicas do not wait.
    pub(in crate::cluster) async fn run(self) {
        while !self.renewed.is_closed() {
            // The time before the request: the Lease is at least as new.
            let begun = Instant::now();
            let pause = match self.renew().await {
                Ok(()) => {
                    self.renewed.send_replace(Some(begun));
                    INTERVAL
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

    async fn renew(&self) -> Result<(), ApiError> {
        let Identity { namespace, .. } = &self.identity;
        let now = Timestamp::now();
        let patch = json!({"spec": self.identity.spec(now)});
        let name = self.identity.lease();
        let renewed = self
            .kubernetes
            .patch::<Lease>(namespace, &name, None, &patch);
        match renewed.await {
            Err(error) if error.code() == Some(404) => {
                let object = self.identity.object(now);
                self.kubernetes.create::<Lease>(namespace, &object).await?;
            }
            renewed => drop(renewed?),
        }
        Ok(())
    }
}
