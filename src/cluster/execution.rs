//! The execution of one task.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;

use super::ids::TaskKey;
use super::results::NodeReport;
use crate::argo::{self, Call, Reply};
use crate::executions::{CancelHandle, Executions};
use crate::step::{ExecutionId, Owner, Phase, Stage, StepError, StepNames, Workflow, owner_event};

/// Longest time after which the controller learns that a step with a `timeout` runs. Most steps end
/// earlier, and need no such report.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// A task that can run.
#[derive(Debug)]
pub(super) struct Execution {
    call: Box<Call>,
    names: StepNames,
}

impl Execution {
    /// Prepares a task. `template` is JSON.
    ///
    /// # Errors
    ///
    /// The template has a mistake. The error is the result of the task.
    pub(super) fn new(
        task: &TaskKey,
        workflow: Workflow,
        template: &str,
    ) -> Result<Self, NodeReport> {
        let template: Value = serde_json::from_str(template).unwrap_or_default();
        let name = template["name"].as_str().unwrap_or_default();
        let owner = Owner::new(&workflow, name, None);
        let refused = |message: String| {
            owner_event!(INFO, &owner, phase = %Phase::Error, reason = message, "task refused");
            NodeReport::of(Reply::error(message))
        };
        let call = match argo::from_template(workflow, &template) {
            Ok(Some(call)) => call,
            Ok(None) => return Err(refused("the template is not for this plugin".to_owned())),
            Err(error) => return Err(refused(error.to_string())),
        };
        let names = StepNames {
            execution: ExecutionId::new(format!("{}/{}", task.set, task.node)),
            owner: Arc::new(call.owner()),
        };
        Ok(Self { call, names })
    }

    /// The time after which the controller must learn that the step runs. `None` if the controller
    /// does not end the node of a step that has not been reported.
    pub(super) fn report_after(&self) -> Option<Duration> {
        let limit = self.call.template.pending_limit()?;
        Some(REPORT_AFTER.min(limit / 4))
    }

    /// Runs the step. A panic becomes a result, too.
    pub(super) async fn run(self, executions: Arc<Executions>, cancel: CancelHandle) -> NodeReport {
        let run = executions.run(self.call, self.names, cancel);
        let finished = AssertUnwindSafe(run).catch_unwind().await;
        NodeReport::of(match finished {
            Ok(finished) => finished.into_reply(),
            Err(_) => Reply::error(StepError::panicked(Stage::Run).to_string()),
        })
    }
}
