//! Cancels executions that the workflow does not need any more.
//!
//! Argo does not tell a plugin that a workflow was stopped or that a node timed out. With access
//! to the Kubernetes API, the watcher reads each Workflow with running executions at an interval.
//! The watcher cancels an execution in these cases:
//!
//! - the Workflow has ended, or does not exist any more
//! - the Workflow has no node that waits for the execution's template
//! - a user stopped or terminated the Workflow
//! - the Workflow's `activeDeadlineSeconds` has passed: the controller applies this deadline only
//!   to nodes that are pending, and only when it processes the Workflow
//!
//! The executions of exit handlers continue, unless the Workflow was terminated. Without access to
//! the API, only the step's limits end the step. The agent asks for the outcome as long as its pod
//! runs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::registry::{Registry, Running};
use crate::argo::workflow::{WorkflowNode, WorkflowObject};
use crate::kubernetes::{Kubernetes, KubernetesError};
use crate::step::{ExecutionId, Owner, step_event};

/// Pause in a namespace after the API refused to read a Workflow there.
const FORBIDDEN_BACKOFF: Duration = Duration::from_mins(10);
/// Pause in a namespace after any other error of the API, such as no answer.
const UNREACHABLE_BACKOFF: Duration = Duration::from_mins(1);

/// Message of a step that the deadline of its workflow ended.
const DEADLINE_EXCEEDED: &str = "the workflow's `activeDeadlineSeconds` ended the step";
/// Message of a step of a workflow that a user stopped or terminated.
const STOPPED: &str = "the workflow was stopped";

/// Which executions the watcher cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All executions that the workflow does not need any more.
    All,
    /// Those of workflows whose deadline has passed. The front end finds the others.
    Deadlines,
}

/// Checks Workflows with running executions at each `interval` until `shutdown`. Executions that
/// are younger than the interval are skipped, because most end before the next check. A deadline
/// that an earlier check found is enforced at once.
pub async fn watch(
    kubernetes: Kubernetes,
    registry: Registry,
    interval: Duration,
    scope: Scope,
    shutdown: CancellationToken,
) {
    let mut watcher = Watcher {
        scope,
        kubernetes,
        skipped_until: HashMap::new(),
        seen: HashMap::new(),
        unneeded: HashSet::new(),
    };
    let mut next_check = Instant::now() + interval;
    loop {
        let pause = next_check.saturating_duration_since(Instant::now());
        let sleep = tokio::time::sleep(watcher.until_deadline(SystemTime::now()).min(pause));
        if shutdown.run_until_cancelled(sleep).await.is_none() {
            return;
        }
        let now = SystemTime::now();
        let mut running = registry.running();
        if Instant::now() < next_check {
            running.retain(|running| watcher.deadline_has_passed(&running.names.owner, now));
            watcher.check_deadlines(running).await;
        } else {
            next_check = Instant::now() + interval;
            running.retain(|running| {
                running.age() >= interval || watcher.deadline_has_passed(&running.names.owner, now)
            });
            watcher.check(running).await;
        }
    }
}

/// Namespace and name of a Workflow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WorkflowName {
    namespace: String,
    name: String,
}

struct Watcher {
    scope: Scope,
    kubernetes: Kubernetes,
    /// Namespaces whose Workflows cannot be read, and when to try again.
    skipped_until: HashMap<String, Instant>,
    /// Workflows that an earlier check read, with their deadlines. Only for these Workflows, "not
    /// found" means "deleted".
    seen: HashMap<WorkflowName, Option<SystemTime>>,
    /// Executions that the previous check found unneeded. The controller may record a node only
    /// after the agent has requested it, so an execution is cancelled after two such checks in a
    /// row.
    unneeded: HashSet<ExecutionId>,
}

impl WorkflowName {
    fn of(owner: &Owner) -> Self {
        Self {
            namespace: owner.namespace.clone(),
            name: owner.workflow.clone(),
        }
    }
}

fn by_workflow(running: Vec<Running>) -> HashMap<WorkflowName, Vec<Running>> {
    let mut workflows: HashMap<WorkflowName, Vec<Running>> = HashMap::new();
    for execution in running {
        let name = WorkflowName::of(&execution.names.owner);
        workflows.entry(name).or_default().push(execution);
    }
    workflows
}

impl Watcher {
    /// Time until the next deadline of a known Workflow.
    fn until_deadline(&self, now: SystemTime) -> Duration {
        let deadlines = self.seen.values().flatten();
        let times = deadlines.filter_map(|deadline| deadline.duration_since(now).ok());
        times.min().unwrap_or(Duration::MAX)
    }

    fn deadline_has_passed(&self, owner: &Owner, now: SystemTime) -> bool {
        let deadline = self.seen.get(&WorkflowName::of(owner)).copied().flatten();
        deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Ends the executions whose workflow's deadline has passed.
    async fn check_deadlines(&mut self, running: Vec<Running>) {
        for (name, executions) in by_workflow(running) {
            let Some(snapshot) = self.read(name).await else {
                continue;
            };
            for execution in executions {
                let reason = snapshot.reason_to_cancel(&execution.names.owner);
                if let Some(reason @ Reason::DeadlineExceeded) = reason {
                    cancel(&execution, reason);
                }
            }
        }
    }

    async fn check(&mut self, running: Vec<Running>) {
        let workflows = by_workflow(running);
        let before = std::mem::take(&mut self.unneeded);
        self.seen.retain(|name, _| workflows.contains_key(name));
        for (name, executions) in workflows {
            let Some(snapshot) = self.read(name).await else {
                continue;
            };
            for execution in executions {
                self.cancel_if_unneeded(&execution, &snapshot, &before);
            }
        }
    }

    /// Reads a Workflow. `None` if nothing is known about it.
    async fn read(&mut self, name: WorkflowName) -> Option<Snapshot> {
        let skipped_until = self.skipped_until.get(&name.namespace);
        if skipped_until.is_some_and(|until| *until > Instant::now()) {
            return None;
        }
        let read = WorkflowObject::read(&self.kubernetes, &name.namespace, &name.name).await;
        let workflow = match read {
            Ok(workflow) => Some(workflow),
            Err(KubernetesError::NotFound(_)) if self.seen.contains_key(&name) => None,
            Err(error) => {
                tracing::info!(
                    namespace = name.namespace,
                    workflow = name.name,
                    %error,
                    "the Workflow cannot be read: if it is stopped, its steps continue until \
                     their limits end them"
                );
                let backoff = match error {
                    KubernetesError::Forbidden(_) => FORBIDDEN_BACKOFF,
                    _ => UNREACHABLE_BACKOFF,
                };
                self.skipped_until
                    .insert(name.namespace, Instant::now() + backoff);
                return None;
            }
        };
        let deadline = workflow.as_ref().and_then(WorkflowObject::deadline);
        // Decompressing the nodes of a large Workflow takes long.
        let snapshot = tokio::task::spawn_blocking(move || Snapshot::of(workflow)).await;
        self.seen.insert(name, deadline);
        snapshot.ok()
    }

    fn cancel_if_unneeded(
        &mut self,
        execution: &Running,
        snapshot: &Snapshot,
        before: &HashSet<ExecutionId>,
    ) {
        let names = &execution.names;
        let Some(reason) = snapshot.reason_to_cancel(&names.owner) else {
            return;
        };
        if reason != Reason::DeadlineExceeded && self.scope == Scope::Deadlines {
            return;
        }
        if reason != Reason::DeadlineExceeded && !before.contains(&names.execution) {
            self.unneeded.insert(names.execution.clone());
            return;
        }
        cancel(execution, reason);
    }
}

fn cancel(execution: &Running, reason: Reason) {
    let names = &execution.names;
    step_event!(INFO, names, reason = reason.message(), "step cancelled");
    match reason {
        Reason::WorkflowEnded(_) => execution.cancel.abandon(),
        Reason::DeadlineExceeded => execution.cancel.fail(DEADLINE_EXCEEDED),
        Reason::Stopped => execution.cancel.fail(STOPPED),
        // The next attempt of the node can send the same request. Its call must get an outcome, so
        // the execution is not abandoned.
        Reason::NoNodeWaits => execution.cancel.cancel(),
    }
}

/// State of a Workflow at one check.
#[derive(Debug, Default)]
struct Snapshot {
    /// The Workflow; `None` if it does not exist.
    workflow: Option<WorkflowObject>,
    /// Nodes of the Workflow; `None` if the object does not contain them.
    nodes: Option<BTreeMap<String, WorkflowNode>>,
}

/// Reason to cancel an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// No node of the Workflow can run any more. The text is the cause.
    WorkflowEnded(&'static str),
    /// The Workflow runs, but none of its nodes waits for the template.
    NoNodeWaits,
    /// A user stopped or terminated the Workflow, and the template is not needed for an exit
    /// handler.
    Stopped,
    /// The Workflow's `activeDeadlineSeconds` has passed.
    DeadlineExceeded,
}

impl Reason {
    fn message(self) -> &'static str {
        match self {
            Self::WorkflowEnded(why) => why,
            Self::Stopped => STOPPED,
            Self::DeadlineExceeded => "the workflow's `activeDeadlineSeconds` has passed",
            Self::NoNodeWaits => "no node of the workflow waits for this template",
        }
    }
}

impl Snapshot {
    fn of(workflow: Option<WorkflowObject>) -> Self {
        let nodes = workflow.as_ref().and_then(WorkflowObject::nodes);
        Self { workflow, nodes }
    }

    /// The reason to cancel the execution. `None` if the execution may be needed.
    fn reason_to_cancel(&self, owner: &Owner) -> Option<Reason> {
        let Some(workflow) = &self.workflow else {
            return Some(Reason::WorkflowEnded(
                "the workflow does not exist any more",
            ));
        };
        let uid = &workflow.metadata.uid;
        if !uid.is_empty() && !owner.uid.is_empty() && *uid != owner.uid {
            return Some(Reason::WorkflowEnded(
                "the workflow was deleted, and another workflow has its name",
            ));
        }
        if workflow.has_ended() {
            return Some(Reason::WorkflowEnded("the workflow has ended"));
        }
        let deadline = workflow.deadline();
        let is_late = deadline.is_some_and(|deadline| deadline <= SystemTime::now());
        // Without a template name, or if the nodes are stored outside the object, no node can be
        // matched.
        let Some(nodes) = self.nodes.as_ref().filter(|_| !owner.template.is_empty()) else {
            if workflow.spec.shutdown == "Terminate" {
                return Some(Reason::WorkflowEnded("the workflow was terminated"));
            }
            let late = is_late && !workflow.has_exit_handler();
            return late.then_some(Reason::DeadlineExceeded);
        };
        let waiting =
            |node: &&WorkflowNode| node.waits_for_executor() && node.template() == owner.template;
        let mut waiting = nodes.values().filter(waiting).peekable();
        let is_waiting = waiting.peek().is_some();
        let is_for_exit_handler = waiting.any(|node| node.is_part_of_exit_handler(nodes));
        // The controller fails the nodes of a stopped Workflow, except the nodes of exit handlers.
        // But the controller sets a node to `Running` again if the task set has this phase. So the
        // phase of a node does not show that the Workflow was stopped.
        match workflow.spec.shutdown.as_str() {
            "Terminate" => return Some(Reason::Stopped),
            "Stop" if !is_for_exit_handler => return Some(Reason::Stopped),
            _ => {}
        }
        if is_late && !is_for_exit_handler {
            return Some(Reason::DeadlineExceeded);
        }
        (!is_waiting).then_some(Reason::NoNodeWaits)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;

    fn owner(template: &str) -> Owner {
        Owner {
            namespace: "n".into(),
            workflow: "wf".into(),
            uid: "u".into(),
            template: template.into(),
            id: None,
        }
    }

    fn reason(workflow: &serde_json::Value, template: &str) -> Option<&'static str> {
        let workflow: WorkflowObject = go_json::from_value(workflow).unwrap();
        Snapshot::of(Some(workflow))
            .reason_to_cancel(&owner(template))
            .map(Reason::message)
    }

    #[test]
    fn only_executions_that_a_node_waits_for_are_needed() {
        let node = |kind: &str, template: &str, phase: &str| json!({"type": kind, "templateName": template, "phase": phase});
        let reference = json!({"type": "Plugin", "templateRef": {"name": "others", "template": "referenced"}, "phase": "Pending"});
        let nodes = json!({
            "1": node("Plugin", "waits", "Pending"), "2": node("Plugin", "ended", "Failed"),
            "3": node("Plugin", "retried", "Failed"), "4": node("Plugin", "retried", ""),
            "5": node("Pod", "pod", "Running"), "6": reference,
        });
        let small =
            json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "nodes": nodes}});
        let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(nodes.to_string().as_bytes()).unwrap();
        let packed = STANDARD.encode(packed.finish().unwrap());
        let large = json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "compressedNodes": packed}});
        for workflow in [small, large] {
            for template in ["waits", "retried", "referenced", ""] {
                assert_eq!(reason(&workflow, template), None, "{template}");
            }
            for template in ["ended", "pod", "unknown"] {
                assert_eq!(
                    reason(&workflow, template),
                    Some("no node of the workflow waits for this template")
                );
            }
        }
    }

    /// A stopped Workflow needs only its exit handlers, and a terminated Workflow needs nothing.
    #[test]
    fn a_stopped_workflow_needs_only_its_exit_handlers() {
        let nodes = json!({
            "1": {"type": "Plugin", "templateName": "main", "phase": "Running"},
            "2": {"type": "Plugin", "templateName": "cleanup", "phase": "Pending", "displayName": "wf.onExit"},
            "3": {"type": "Plugin", "templateName": "step-cleanup", "phase": "Pending", "displayName": "a.onExit", "boundaryID": "1"},
            "4": {"type": "Plugin", "templateName": "failed", "phase": "Failed"},
        });
        let workflow = |shutdown: &str| json!({"spec": {"shutdown": shutdown}, "status": {"phase": "Running", "nodes": nodes}});
        for (shutdown, template, is_stopped) in [
            ("Stop", "main", true),
            ("Stop", "failed", true),
            ("Stop", "cleanup", false),
            ("Stop", "step-cleanup", false),
            ("Terminate", "main", true),
            ("Terminate", "cleanup", true),
            ("", "main", false),
        ] {
            let expected = is_stopped.then_some(STOPPED);
            assert_eq!(
                reason(&workflow(shutdown), template),
                expected,
                "{shutdown} {template}"
            );
        }
    }

    #[test]
    fn the_deadline_of_the_workflow_ends_all_steps_except_those_of_exit_handlers() {
        let deadline = "the workflow's `activeDeadlineSeconds` has passed";
        let nodes = json!({
            "1": {"type": "Plugin", "templateName": "main", "phase": "Running", "boundaryID": "0"},
            "2": {"type": "Steps", "displayName": "wf.onExit", "phase": "Running"},
            "3": {"type": "Plugin", "templateName": "cleanup", "phase": "Pending", "boundaryID": "2"},
            "4": {"type": "Plugin", "templateName": "both", "phase": "Pending", "boundaryID": "2"},
            "5": {"type": "Plugin", "templateName": "both", "phase": "Pending", "boundaryID": "5"},
        });
        let workflow = |seconds: i64, nodes: &serde_json::Value| {
            json!({
                "spec": {"activeDeadlineSeconds": seconds, "onExit": "cleanup"},
                "status": {"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "nodes": nodes},
            })
        };
        let late = workflow(60, &nodes);
        assert_eq!(reason(&late, "main"), Some(deadline));
        assert_eq!(reason(&late, "unknown"), Some(deadline));
        for template in ["cleanup", "both"] {
            assert_eq!(reason(&late, template), None, "{template}");
        }
        assert_eq!(reason(&workflow(1 << 40, &nodes), "main"), None);
        assert_eq!(reason(&workflow(-1, &nodes), "main"), None);
        // Without nodes, the exit handler cannot be told apart.
        let mut late = workflow(60, &json!({}));
        assert_eq!(reason(&late, "main"), None);
        late["spec"]["onExit"] = json!("");
        assert_eq!(reason(&late, "main"), Some(deadline));
        // The deadline of a WorkflowTemplate.
        late["spec"] = json!({"workflowTemplateRef": {"name": "lib"}});
        late["status"]["storedWorkflowTemplateSpec"] = json!({"activeDeadlineSeconds": 60});
        assert_eq!(reason(&late, "main"), Some(deadline));
        late["status"]["startedAt"] = json!(null);
        assert_eq!(reason(&late, "main"), None);
    }

    #[test]
    fn without_nodes_only_the_state_of_the_workflow_cancels() {
        let offloaded = |shutdown: &str| json!({"spec": {"shutdown": shutdown}, "status": {"phase": "Running", "offloadNodeStatusVersion": "v"}});
        assert_eq!(reason(&offloaded("Stop"), "a"), None);
        assert!(reason(&offloaded("Terminate"), "a").is_some());
        assert_eq!(
            reason(&json!({"status": {"phase": "Failed"}}), "a"),
            Some("the workflow has ended")
        );
        assert!(
            reason(&json!({"metadata": {"uid": "v"}}), "a")
                .is_some_and(|reason| reason.contains("another workflow has its name"))
        );
        assert_eq!(
            Snapshot::of(None).reason_to_cancel(&owner("a")),
            Some(Reason::WorkflowEnded(
                "the workflow does not exist any more"
            ))
        );
    }
}
