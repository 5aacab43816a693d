//! What the configuration allows the steps of each namespace.

use std::sync::Arc;

use net::{Hosts, matches_any};

use super::document::Config;
use crate::step::StepLimits;

/// What the operator allows the steps of each namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NamespaceRules {
    /// The limits in namespaces without an entry.
    limits: StepLimits,
    entries: Arc<[Entry]>,
}

#[derive(Debug)]
struct Entry {
    names: Vec<String>,
    hosts: Vec<String>,
    limits: StepLimits,
}

impl NamespaceRules {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Self {
        let entries = config.namespaces.iter().map(|settings| Entry {
            names: settings.names.clone(),
            hosts: settings.hosts.clone(),
            limits: config.step_limits(&settings.limits.lower(&config.limits)),
        });
        Self {
            limits: config.step_limits(&config.limits),
            entries: entries.collect(),
        }
    }

    /// The limits of a step whose template sets none.
    pub fn limits(&self, namespace: &str) -> StepLimits {
        self.entry(namespace)
            .map_or(self.limits, |entry| entry.limits)
    }

    /// Keeps only the hosts that the steps of a namespace may reach.
    pub fn narrow(&self, namespace: &str, hosts: Hosts) -> Hosts {
        match self.entry(namespace) {
            Some(entry) => hosts.only(&entry.hosts, &place_of_hosts(namespace)),
            None => hosts,
        }
    }

    /// The entry that is used for a namespace.
    fn entry(&self, namespace: &str) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| matches_any(&entry.names, namespace))
    }
}

fn place_of_hosts(namespace: &str) -> String {
    format!("`hosts`, in the entry of `namespaces` for `{namespace}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_can_only_have_lower_limits() {
        let text = "limits: {memory: 64Mi, time: 1m}\n\
                    namespaces:\n\
                    - {names: [a], limits: {memory: 32Mi, time: 2m}}\n\
                    - {names: [short], limits: {total: 10s}}\n\
                    - {names: ['*'], limits: {entries: 20}}\n";
        let rules = NamespaceRules::new(&Config::from_text(text, "the test").unwrap());
        let [a, b] = ["a", "b"].map(|namespace| rules.limits(namespace));
        assert_eq!([a.memory, b.memory], [32 << 20, 64 << 20]);
        assert_eq!(a.time, b.time, "the entry cannot raise the limit");
        assert_eq!(b.entries, 20);
        let short = rules.limits("short");
        let seconds = [short.time, short.total].map(|time| time.as_secs());
        assert_eq!(seconds, [10, 10]);
        assert!(a.entries > 20, "only the first entry that matches is used");
    }
}
