//! The view of the replicas: which ones are alive. Pure: it reads no clock.
//!
//! Each replica renews a Lease. Another replica is dead if its Lease was deleted, or if its Lease
//! has not changed for the duration of the Lease. The time is that of the observer's own clock, and
//! only time in which the observer's own watch was alive is included: a replica that is cut off
//! from the API server must not believe that all others are dead.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lease::Lease;
use crate::kubernetes::{Listed, Version};

/// All replicas that have a Lease.
#[derive(Debug, Default)]
pub(in crate::cluster) struct View {
    /// By the name of the Lease.
    leases: HashMap<String, Observed>,
    /// The last time at which the watch was alive.
    watched: Option<Instant>,
    /// Whether the Leases have been listed.
    is_known: bool,
}

#[derive(Debug)]
struct Observed {
    /// Unique id of the Lease.
    uid: String,
    /// The replica that holds the Lease.
    replica: String,
    /// The TaskSets that the replica serves.
    serves: String,
    version: Version,
    duration: Duration,
    /// Time in which the watch was alive since the last change.
    unchanged: Duration,
}

impl View {
    /// The watch is alive: it has reported something, or the API server has confirmed that nothing
    /// has changed.
    pub(in crate::cluster) fn watched(&mut self, now: Instant, longest: Duration) {
        let passed = self.watched.replace(now).map(|before| now - before);
        // After a gap, nothing is known about the time in between.
        let passed = passed.filter(|passed| *passed <= longest);
        for observed in self.leases.values_mut() {
            observed.unchanged += passed.unwrap_or_default();
        }
    }

    /// A Lease was created or renewed.
    pub(in crate::cluster) fn applied(&mut self, lease: &Lease) {
        let version = &lease.metadata.resource_version;
        let known = self.leases.get(&lease.metadata.name);
        if known.is_some_and(|known| known.version == *version) {
            return;
        }
        let observed = Observed {
            uid: lease.metadata.uid.clone(),
            replica: lease.spec.holder_identity.clone(),
            serves: lease.serves().to_owned(),
            version: version.clone(),
            duration: Duration::from_secs(lease.spec.lease_duration_seconds),
            unchanged: Duration::ZERO,
        };
        self.leases.insert(lease.metadata.name.clone(), observed);
    }

    /// A Lease was deleted: its replica has ended.
    pub(in crate::cluster) fn deleted(&mut self, name: &str) {
        self.leases.remove(name);
    }

    /// Takes the list of all Leases: the replicas of the others have ended.
    pub(in crate::cluster) fn listed(&mut self, listed: &Listed) {
        self.is_known = true;
        self.leases.retain(|_, observed| {
            let is_newer = listed.version.is_older_than(&observed.version);
            is_newer || listed.uids.contains(&observed.uid)
        });
    }

    /// Whether the Leases have been listed: before, nothing is known about other replicas.
    pub(in crate::cluster) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The replicas that are alive, also those that serve other TaskSets.
    pub(in crate::cluster) fn alive(&self) -> impl Iterator<Item = &str> {
        self.living().map(|observed| observed.replica.as_str())
    }

    /// The replicas that are alive and serve these TaskSets.
    pub(in crate::cluster) fn peers(&self, serves: &str) -> impl Iterator<Item = &str> {
        let peers = self.living().filter(move |living| living.serves == serves);
        peers.map(|observed| observed.replica.as_str())
    }

    fn living(&self) -> impl Iterator<Item = &Observed> {
        let all = self.leases.values();
        all.filter(|observed| observed.unchanged < observed.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::lease::LeaseSpec;
    use crate::kubernetes::Metadata;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(name: &str, version: u64) -> Lease {
        Lease {
            metadata: Metadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                resource_version: version.to_string().as_str().into(),
                ..Metadata::default()
            },
            spec: LeaseSpec {
                holder_identity: format!("replica-{name}"),
                lease_duration_seconds: 45,
                ..LeaseSpec::default()
            },
        }
    }

    fn alive(view: &View) -> Vec<&str> {
        let mut alive: Vec<&str> = view.alive().collect();
        alive.sort_unstable();
        alive
    }

    #[test]
    fn a_replica_is_dead_if_its_lease_does_not_change() {
        let start = Instant::now();
        let mut view = View::default();
        view.applied(&lease("a", 1));
        view.applied(&lease("b", 1));
        for second in 0..46 {
            view.watched(start + SECOND * second, 5 * SECOND);
            view.applied(&lease("a", u64::from(second) + 2));
            // The same version again is no renewal.
            view.applied(&lease("b", 1));
        }
        assert_eq!(alive(&view), ["replica-a"]);
        view.applied(&lease("b", 99));
        assert_eq!(alive(&view), ["replica-a", "replica-b"]);
        view.deleted("a");
        assert_eq!(alive(&view), ["replica-b"]);
        view.applied(&lease("c", 7));
        view.listed(&Listed {
            uids: ["uid-b".to_owned()].into(),
            version: "8".into(),
        });
        assert_eq!(alive(&view), ["replica-b"], "`c` is not in the list");
    }

    #[test]
    fn time_without_a_watch_is_not_included() {
        let start = Instant::now();
        let mut view = View::default();
        view.applied(&lease("a", 1));
        view.watched(start, 5 * SECOND);
        view.watched(start + 100 * SECOND, 5 * SECOND);
        assert_eq!(alive(&view), ["replica-a"]);
        for second in 101..145 {
            view.watched(start + SECOND * second, 5 * SECOND);
        }
        assert_eq!(alive(&view), ["replica-a"]);
        view.watched(start + 145 * SECOND, 5 * SECOND);
        assert_eq!(alive(&view), Vec::<&str>::new());
    }
}
