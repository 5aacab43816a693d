//! The view of the replicas: which ones are alive. Pure: it reads no clock.
//!
//! Each replica renews a Lease. Another replica is dead if its Lease was deleted, or if its Lease
//! has not changed for the duration of the Lease. The time is that of the observer's own clock, and
//! only time in which the observer's own watch was alive is included: a replica that is cut off
//! from the API server must not believe that all others are dead.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lease::Lease;

/// All replicas that have a Lease.
#[derive(Debug, Default)]
pub(in crate::cluster) struct View {
    /// By the name of the Lease.
    leases: HashMap<String, Observed>,
    /// The last time at which the watch was alive.
    watched: Option<Instant>,
}

#[derive(Debug)]
struct Observed {
    /// The replica that holds the Lease.
    replica: String,
    version: String,
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
            replica: lease.spec.holder_identity.clone(),
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

    /// Takes the list of all Leases.
    pub(in crate::cluster) fn listed(&mut self, all: &[Lease]) {
        self.leases
            .retain(|name, _| all.iter().any(|lease| lease.metadata.name == *name));
        for lease in all {
            self.applied(lease);
        }
    }

    /// Whether the Leases have been listed: before, nothing is known about other replicas.
    pub(in crate::cluster) fn is_known(&self) -> bool {
        self.watched.is_some()
    }

    /// The replicas that are alive.
    pub(in crate::cluster) fn alive(&self) -> impl Iterator<Item = &str> {
        let alive = self.leases.values();
        let alive = alive.filter(|observed| observed.unchanged < observed.duration);
        alive.map(|observed| observed.replica.as_str())
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
                resource_version: version.to_string(),
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
        view.listed(&[lease("a", 1), lease("b", 1)]);
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
    }

    #[test]
    fn time_without_a_watch_is_not_included() {
        let start = Instant::now();
        let mut view = View::default();
        view.listed(&[lease("a", 1)]);
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
