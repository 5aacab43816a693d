//! Rules that the types of the configuration cannot express. A value that could never work is an
//! error before the executor starts.

use std::time::Duration;

use super::artifact_stores::Artifacts;
use super::check_namespaces;
use super::check_sources;
use super::cluster::ClusterSettings;
use super::document::Config;
use super::limits::{Capacity, Limits, STEPS_RANGE};
use crate::config::AgentSettings;
use crate::kubernetes::is_dns_subdomain;
use crate::step::CompileLimits;
use crate::text::DocumentError;

/// The agent ends a call after 30 s, so the executor must answer well before that.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Size of the address space of a 32-bit module. The engine reserves as much for each memory.
const MAX_MEMORY: u64 = 4 << 30;
/// Size of one page of linear memory.
const MIN_MEMORY: u64 = 64 << 10;
const MAX_STEPS: u32 = 1024;
const MIN_LEASE: Duration = Duration::from_secs(30);
const MIN_MESSAGE: u64 = 64;
const MIN_ENTRIES: u64 = 16;

/// A rule: the key, whether its value is valid, and the message if it is not.
struct Rule {
    key: &'static str,
    valid: bool,
    message: &'static str,
}

pub(super) fn check(config: &Config) -> Result<(), DocumentError> {
    let rules = capacity_rules(&config.capacity)
        .into_iter()
        .chain(limit_rules(&config.limits))
        .chain(agent_rules(&config.agent))
        .chain(cluster_rules(&config.cluster));
    if let Some(broken) = rules.into_iter().find(|rule| !rule.valid) {
        return Err(DocumentError::new(broken.key, broken.message));
    }
    check_sources::check(&config.sources)?;
    check_namespaces::check(&config.namespaces)?;
    for (index, namespace) in config.namespaces.iter().enumerate() {
        // The limits for all namespaces are valid, so a broken rule is about this entry.
        let rules = limit_rules(&namespace.limits.lower(&config.limits));
        if let Some(broken) = rules.into_iter().find(|rule| !rule.valid) {
            let at = format!("namespaces[{index}].{}", broken.key);
            return Err(DocumentError::new(at, broken.message));
        }
    }
    artifacts(&config.artifacts)?;
    match config.telemetry.log.filter() {
        Ok(_) => Ok(()),
        Err(error) => Err(DocumentError::new("telemetry.log.level", error.to_string())),
    }
}

fn cluster_rules(cluster: &ClusterSettings) -> [Rule; 3] {
    [
        Rule {
            key: "cluster.requeueTime",
            valid: !cluster.requeue_time.0.is_zero(),
            message: "must be above zero",
        },
        Rule {
            key: "cluster.leaseDuration",
            valid: cluster.lease_duration.0 >= MIN_LEASE,
            message: "must be at least 30s: a replica renews its Lease every ten seconds",
        },
        Rule {
            key: "cluster.tenantAccount",
            valid: is_dns_subdomain(&cluster.tenant_account),
            message: "must be the name of a service account",
        },
    ]
}

fn capacity_rules(capacity: &Capacity) -> [Rule; 3] {
    [
        Rule {
            key: "capacity.steps",
            valid: (1..=MAX_STEPS).contains(&capacity.steps),
            message: STEPS_RANGE,
        },
        Rule {
            key: "capacity.memory",
            valid: capacity.memory.0 >= MIN_MEMORY,
            message: "must be at least 64Ki, the least that a module can have",
        },
        Rule {
            key: "capacity.compileMemory",
            valid: capacity.compile_memory.0 >= CompileLimits::MIN_MEMORY,
            message: "must be at least 64Mi, the least that the compiler needs",
        },
    ]
}

fn limit_rules(limits: &Limits) -> [Rule; 7] {
    [
        Rule {
            key: "limits.message",
            valid: limits.message.0 >= MIN_MESSAGE,
            message: "must be at least 64 bytes",
        },
        Rule {
            key: "limits.memory",
            valid: limits.memory.0 >= MIN_MEMORY,
            message: "must be at least 64Ki, the least that a module can have",
        },
        Rule {
            key: "limits.memory",
            valid: limits.memory.0 <= MAX_MEMORY,
            message: "must be at most 4Gi, the most that a module can address",
        },
        Rule {
            key: "limits.entries",
            valid: limits.entries >= MIN_ENTRIES,
            message: "must be at least 16, because the executor itself creates some entries",
        },
        Rule {
            key: "limits.time",
            valid: !limits.time.0.is_zero(),
            message: "must be more than 0",
        },
        Rule {
            key: "limits.compile.time",
            valid: limits.compile.time.0 >= CompileLimits::MIN_TIME,
            message: "must be at least 100ms, the least that the compiler needs",
        },
        Rule {
            key: "limits.compile.memory",
            valid: limits.compile.memory.0 >= CompileLimits::MIN_MEMORY,
            message: "must be at least 64Mi, the least that the compiler needs",
        },
    ]
}

fn agent_rules(agent: &AgentSettings) -> [Rule; 3] {
    [
        Rule {
            key: "agent.wait",
            valid: agent.wait.0 <= MAX_WAIT,
            message: "must be at most 20s, because the agent ends a call after 30 s",
        },
        Rule {
            key: "agent.workflowPollInterval",
            valid: !agent.workflow_poll_interval.0.is_zero(),
            message: "must be more than 0",
        },
        Rule {
            key: "agent.patchRate",
            valid: !agent.patch_rate.0.is_zero(),
            message: "must be more than 0; use the value of the controller's ARGO_AGENT_PATCH_RATE",
        },
    ]
}

fn artifacts(artifacts: &Artifacts) -> Result<(), DocumentError> {
    let Some(repository) = &artifacts.repository else {
        return Ok(());
    };
    let invalid = |message: String| DocumentError::new("artifacts.repository", message);
    let destination = repository
        .destination()
        .map_err(|error| invalid(error.describe()))?;
    if destination.is_none() {
        return Err(invalid("the key `s3` or `directory` is missing".to_owned()));
    }
    match &repository.directory {
        Some(directory) if !directory.path.is_absolute() => Err(DocumentError::new(
            "artifacts.repository.directory.path",
            "must be an absolute path",
        )),
        _ => Ok(()),
    }
}
