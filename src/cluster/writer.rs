//! The writer: puts results into a TaskSet with a merge patch of its status.
//!
//! Each patch has the version of the TaskSet in which its tasks were seen, as a precondition. If
//! the TaskSet has changed since, the API server refuses the patch with status 409. So a result
//! cannot be written for a task that has left the TaskSet. Argo's controller would stop the
//! workflow for good if the TaskSet had a result for a node that it does not know.

use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ids::{NodeId, SetUid};
use super::results::NodeReport;
use crate::argo::task_set::TaskSet;
use crate::kubernetes::{ApiError, Kubernetes, Stored, Version};
use crate::step::Workflow;

/// Reports that are written together.
#[derive(Debug)]
pub(super) struct Batch {
    /// The TaskSet.
    pub(super) set: SetUid,
    /// The Workflow of the TaskSet. Both have the same name.
    pub(super) workflow: Workflow,
    /// The version of the TaskSet in which the tasks were seen.
    pub(super) version: Version,
    /// The reports.
    pub(super) reports: Vec<(NodeId, NodeReport)>,
}

/// What has been written of a batch.
#[derive(Debug)]
pub(super) struct Written {
    /// The TaskSet.
    pub(super) set: SetUid,
    /// The reports that are in the TaskSet.
    pub(super) reports: Vec<(NodeId, NodeReport)>,
    /// The reports that the API server does not accept.
    pub(super) refused: Vec<Refused>,
    /// The latest version of the TaskSet, if one was read.
    pub(super) latest: Option<Stored<TaskSet>>,
    /// Why the other reports were not written.
    pub(super) problem: Option<Problem>,
    /// Duration of the write.
    pub(super) duration: Duration,
}

impl Written {
    /// The result, for metrics.
    pub(super) fn name(&self) -> &'static str {
        match &self.problem {
            None if self.refused.is_empty() => "written",
            None => "refused",
            Some(Problem::Conflict) => "conflict",
            Some(Problem::Gone) => "gone",
            Some(Problem::Forbidden(_) | Problem::Unavailable(_)) => "failed",
        }
    }
}

/// A report that the API server does not accept.
#[derive(Debug)]
pub(super) struct Refused {
    /// The task.
    pub(super) node: NodeId,
    /// The server's message.
    pub(super) message: String,
    /// Whether the object would be too large.
    pub(super) is_too_large: bool,
}

/// Why reports were not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The TaskSet has changed: `latest` is its new version.
    Conflict,
    /// The TaskSet does not exist any more.
    Gone,
    /// The service account may not write.
    Forbidden(String),
    /// The API server did not answer, or is overloaded.
    Unavailable(String),
}

/// The body of a patch.
#[derive(Serialize)]
struct Patch<'a> {
    metadata: Precondition<'a>,
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Precondition<'a> {
    resource_version: &'a Version,
}

#[derive(Serialize)]
struct Status<'a> {
    nodes: BTreeMap<&'a str, &'a RawValue>,
}

/// Writes a batch. If the API server does not accept a report, the batch is divided in halves until
/// the report is found.
pub(super) async fn write(kubernetes: &Kubernetes, batch: Batch) -> Written {
    let mut written = Written {
        set: batch.set,
        reports: Vec::new(),
        refused: Vec::new(),
        latest: None,
        problem: None,
        duration: Duration::ZERO,
    };
    let started = Instant::now();
    let mut version = batch.version;
    let mut parts = vec![batch.reports];
    while let Some(mut part) = parts.pop() {
        match patch(kubernetes, &batch.workflow, &version, &part).await {
            Ok(stored) => {
                version.clone_from(&stored.object.metadata.resource_version);
                written.latest = Some(stored);
                written.reports.append(&mut part);
            }
            Err(error) if is_refusal(&error) => {
                if let [(node, _)] = part.as_slice() {
                    written.refused.push(Refused {
                        node: node.clone(),
                        message: error.to_string(),
                        is_too_large: is_too_large(&error),
                    });
                } else {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
            Err(error) => {
                written.problem = Some(problem(&error));
                break;
            }
        }
    }
    if written.problem == Some(Problem::Conflict) {
        let Workflow {
            namespace, name, ..
        } = &batch.workflow;
        match kubernetes.read::<TaskSet>(namespace, name).await {
            Ok(latest) => written.latest = Some(latest),
            Err(error) => written.problem = Some(problem(&error)),
        }
    }
    written.duration = started.elapsed();
    written
}

async fn patch(
    kubernetes: &Kubernetes,
    workflow: &Workflow,
    version: &Version,
    reports: &[(NodeId, NodeReport)],
) -> Result<Stored<TaskSet>, ApiError> {
    let nodes = reports
        .iter()
        .map(|(node, report)| (&**node, report.json()));
    let patch = Patch {
        metadata: Precondition {
            resource_version: version,
        },
        status: Status {
            nodes: nodes.collect(),
        },
    };
    let Workflow {
        namespace, name, ..
    } = workflow;
    kubernetes
        .patch(namespace, name, Some("status"), &patch)
        .await
}

/// Whether the API server does not accept the content of the patch.
fn is_refusal(error: &ApiError) -> bool {
    matches!(error.code(), Some(400 | 422)) || is_too_large(error)
}

/// Whether the object would be too large. If it would be too large for etcd, the status is 500,
/// with a message of etcd or of its client.
fn is_too_large(error: &ApiError) -> bool {
    match error {
        ApiError::Refused { code: 413, .. } => true,
        ApiError::Refused { code: 500, message } => {
            message.contains("too large") || message.contains("larger than max")
        }
        _ => false,
    }
}

fn problem(error: &ApiError) -> Problem {
    match error.code() {
        Some(404) => Problem::Gone,
        Some(409) => Problem::Conflict,
        Some(401 | 403) => Problem::Forbidden(error.to_string()),
        _ => Problem::Unavailable(error.to_string()),
    }
}
