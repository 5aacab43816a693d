//! Workflows that are stopped, and their steps.
//!
//! Argo tells a plugin nothing of that. Where the Kubernetes API may be read, the Workflow is looked at while its steps run: when it is gone or over, or when it
//! has no node any more that waits for a template, the steps of that are stopped. So are steps that Argo has failed for their timeout. Handlers on exit have
//! nodes of their own, and go on. Without the API, a step's limits end it: the agent asks for it as long as its pod lives.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::registry::{Owner, Running};
use crate::agent::Jobs;
use crate::argo::workflow::{Workflow, WorkflowNode};
use crate::kubernetes::{Kubernetes, KubernetesError};

/// How long workflows are left alone that may not be read, and how long where the API does not answer.
const FORBIDDEN: Duration = Duration::from_mins(10);
const UNREACHABLE: Duration = Duration::from_mins(1);

/// Looks at workflows with running steps until `shutdown`. Younger ones than the interval are left alone: most are over by then.
pub async fn watch<T: Clone + Send + Sync + 'static>(
    kubernetes: Kubernetes,
    jobs: Jobs<T>,
    every: Duration,
    shutdown: CancellationToken,
) {
    let mut watcher = Watcher {
        kubernetes,
        left_alone: HashMap::new(),
        unwanted: HashSet::new(),
        seen: HashSet::new(),
    };
    while shutdown
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        let old = jobs.running().into_iter().filter(|job| job.age() >= every);
        watcher.look(old.collect()).await;
    }
}

struct Watcher {
    kubernetes: Kubernetes,
    /// Which namespaces' workflows cannot be read, until they are tried again.
    left_alone: HashMap<String, Instant>,
    /// Which workflows were there once: one that never was is not gone.
    seen: HashSet<(String, String)>,
    /// The steps that nothing waited for the last time. The controller writes nodes down after it asked for them: only the second time counts.
    unwanted: HashSet<u64>,
}

impl Watcher {
    async fn look(&mut self, running: Vec<Running>) {
        let mut workflows: HashMap<(String, String), Vec<Running>> = HashMap::new();
        for job in running {
            let owner = &job.owner;
            workflows
                .entry((owner.namespace.clone(), owner.workflow.clone()))
                .or_default()
                .push(job);
        }
        let before = std::mem::take(&mut self.unwanted);
        self.seen
            .retain(|workflow| workflows.contains_key(workflow));
        for ((namespace, name), jobs) in workflows {
            if self
                .left_alone
                .get(&namespace)
                .is_some_and(|until| *until > Instant::now())
            {
                continue;
            }
            let id = (namespace, name);
            let workflow = match Workflow::read(&self.kubernetes, &id.0, &id.1).await {
                Ok(workflow) => Some(workflow),
                Err(KubernetesError::NotFound(_)) if self.seen.contains(&id) => None,
                Err(error) => {
                    tracing::info!(%error, "steps of workflows that are stopped go on until their limits end them");
                    let forbidden = matches!(error, KubernetesError::Forbidden(_));
                    self.left_alone.insert(
                        id.0,
                        Instant::now() + if forbidden { FORBIDDEN } else { UNREACHABLE },
                    );
                    continue;
                }
            };
            let Ok((workflow, nodes)) = tokio::task::spawn_blocking(move || {
                let nodes = workflow.as_ref().and_then(Workflow::nodes);
                (workflow, nodes)
            })
            .await
            else {
                continue;
            };
            self.seen.insert(id);
            for job in jobs {
                let Some(why) = unwanted(workflow.as_ref(), nodes.as_ref(), &job.owner) else {
                    continue;
                };
                if !before.contains(&job.number) {
                    self.unwanted.insert(job.number);
                    continue;
                }
                let Owner {
                    workflow, template, ..
                } = &*job.owner;
                tracing::info!(workflow, template, why = why.message(), "a step is stopped");
                match why {
                    Why::Over(_) => job.forget(),
                    // A later attempt can have the same bytes: whoever asks has to be told something.
                    Why::Template => job.stop(),
                }
            }
        }
    }
}

/// Why nobody wants a step any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Nothing of the workflow runs any more.
    Over(&'static str),
    /// The workflow goes on without it.
    Template,
}

impl Why {
    fn message(self) -> &'static str {
        match self {
            Self::Over(why) => why,
            Self::Template => "the workflow waits for no step of this template",
        }
    }
}

/// Why nobody wants the step any more, if nobody does.
fn unwanted(
    workflow: Option<&Workflow>,
    nodes: Option<&BTreeMap<String, WorkflowNode>>,
    owner: &Owner,
) -> Option<Why> {
    let Some(workflow) = workflow else {
        return Some(Why::Over("the workflow is gone"));
    };
    let uid = &workflow.metadata.uid;
    if !uid.is_empty() && !owner.uid.is_empty() && *uid != owner.uid {
        return Some(Why::Over("the workflow is gone, and another has its name"));
    }
    if workflow.has_ended() {
        return Some(Why::Over("the workflow is over"));
    }
    // No node can be told by its template where that has no name, or where nodes are kept elsewhere.
    match nodes.filter(|_| !owner.template.is_empty()) {
        Some(nodes)
            if nodes
                .values()
                .any(|node| node.waits_for_plugin() && node.template() == owner.template) =>
        {
            None
        }
        Some(_) => Some(Why::Template),
        None if workflow.spec.shutdown == "Terminate" => {
            Some(Why::Over("the workflow was terminated"))
        }
        None => None,
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
        }
    }

    fn why(workflow: &serde_json::Value, template: &str) -> Option<&'static str> {
        let workflow: Workflow = serde_json::from_value(workflow.clone()).unwrap();
        unwanted(Some(&workflow), workflow.nodes().as_ref(), &owner(template)).map(Why::message)
    }

    #[test]
    fn only_what_waits_is_wanted() {
        let node = |kind: &str, template: &str, phase: &str| json!({"type": kind, "templateName": template, "phase": phase});
        let there = json!({"type": "Plugin", "templateRef": {"name": "others", "template": "there"}, "phase": "Pending"});
        let nodes = json!({
            "1": node("Plugin", "waits", "Pending"), "2": node("Plugin", "over", "Failed"),
            "3": node("Plugin", "again", "Failed"), "4": node("Plugin", "again", ""),
            "5": node("Pod", "pod", "Running"), "6": there,
        });
        let stopped = json!({"metadata": {"uid": "u"}, "spec": {"shutdown": "Stop"}, "status": {"phase": "Running", "nodes": nodes}});
        let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(nodes.to_string().as_bytes()).unwrap();
        let packed = STANDARD.encode(packed.finish().unwrap());
        let large = json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "compressedNodes": packed}});
        for workflow in [stopped, large] {
            for template in ["waits", "again", "there", ""] {
                assert_eq!(why(&workflow, template), None, "{template}");
            }
            for template in ["over", "pod", "unknown"] {
                assert_eq!(
                    why(&workflow, template),
                    Some("the workflow waits for no step of this template")
                );
            }
        }
        let elsewhere = |shutdown: &str| json!({"spec": {"shutdown": shutdown}, "status": {"phase": "Running", "offloadNodeStatusVersion": "v"}});
        assert_eq!(
            (
                why(&elsewhere("Stop"), "a"),
                why(&elsewhere("Terminate"), "a").is_some()
            ),
            (None, true)
        );
        assert_eq!(
            why(&json!({"status": {"phase": "Failed"}}), "a"),
            Some("the workflow is over")
        );
        assert!(
            why(&json!({"metadata": {"uid": "v"}}), "a")
                .is_some_and(|why| why.contains("another has its name"))
        );
        assert_eq!(
            unwanted(None, None, &owner("a")),
            Some(Why::Over("the workflow is gone"))
        );
    }
}
