//! The execution of one task.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;

use super::ids::TaskKey;
use super::results::NodeReport;
use crate::argo::task_set::TemplateKinds;
use crate::argo::{self, Call, HttpCall, Reply, Template};
use crate::executions::{CancelHandle, Executions};
use crate::http_templates::HttpTemplates;
use crate::step::{ExecutionId, Owner, Phase, Stage, StepError, StepNames, Workflow, owner_event};
use crate::text::DocumentError;

/// Longest time after which the controller learns that a step with a `timeout` runs. Most steps end
/// earlier, and need no such report.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// The parts that run tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskRunners {
    /// Runs tasks of this plugin.
    pub executions: Arc<Executions>,
    /// Runs `http` tasks; `None` if this replica does not run them.
    pub http_templates: Option<Arc<HttpTemplates>>,
}

/// A task that can run.
#[derive(Debug)]
pub(super) struct Execution {
    call: TaskCall,
    names: StepNames,
}

/// A task, by the kind of its template.
#[derive(Debug)]
enum TaskCall {
    Plugin(Box<Call>),
    Http(Box<HttpCall>, Arc<HttpTemplates>),
}

impl TaskRunners {
    /// The kinds of templates that this replica runs.
    pub(super) fn kinds(&self) -> TemplateKinds {
        TemplateKinds {
            http: self.http_templates.is_some(),
        }
    }

    /// Reads a template. `None` if this replica does not run its kind.
    fn call(
        &self,
        workflow: Workflow,
        template: &Value,
    ) -> Result<Option<TaskCall>, DocumentError> {
        if let Some(call) = argo::from_template(workflow.clone(), template)? {
            return Ok(Some(TaskCall::Plugin(call)));
        }
        let Some(http_templates) = &self.http_templates else {
            return Ok(None);
        };
        let call = argo::http_call(workflow, template)?;
        Ok(call.map(|call| TaskCall::Http(call, Arc::clone(http_templates))))
    }
}

impl TaskCall {
    fn template(&self) -> &Template {
        match self {
            Self::Plugin(call) => &call.template,
            Self::Http(call, _) => &call.template,
        }
    }

    fn owner(&self) -> Owner {
        match self {
            Self::Plugin(call) => call.owner(),
            Self::Http(call, _) => call.owner(),
        }
    }
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
        runners: &TaskRunners,
    ) -> Result<Self, NodeReport> {
        let template: Value = serde_json::from_str(template).unwrap_or_default();
        let name = template["name"].as_str().unwrap_or_default();
        let owner = Owner::new(&workflow, name, None);
        let refused = |message: String| {
            owner_event!(INFO, &owner, phase = %Phase::Error, reason = message, "task refused");
            NodeReport::of(Reply::error(message))
        };
        let call = match runners.call(workflow, &template) {
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

    /// The time after which the controller must learn that the task runs. `None` if the controller
    /// does not end the node of a task that has not been reported.
    pub(super) fn report_after(&self) -> Option<Duration> {
        let limit = self.call.template().pending_limit()?;
        Some(REPORT_AFTER.min(limit / 4))
    }

    /// Runs the task. A panic becomes a result, too.
    pub(super) async fn run(self, executions: Arc<Executions>, cancel: CancelHandle) -> NodeReport {
        let Self { call, names } = self;
        let run = async {
            match call {
                TaskCall::Plugin(call) => executions.run(call, names, cancel).await.into_reply(),
                TaskCall::Http(call, http_templates) => {
                    http_templates.run(call, names, cancel).await
                }
            }
        };
        let finished = AssertUnwindSafe(run).catch_unwind().await;
        let reply =
            finished.unwrap_or_else(|_| Reply::error(StepError::panicked(Stage::Run).to_string()));
        NodeReport::of(reply)
    }
}
