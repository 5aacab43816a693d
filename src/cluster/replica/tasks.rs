//! Tasks of a replica: their start and their end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::running::Running;
use super::{Replica, Report};
use crate::argo::Reply;
use crate::cluster::execution::Execution;
use crate::cluster::ids::TaskKey;
use crate::cluster::index::Action;
use crate::cluster::results::NodeReport;
use crate::executions::{CancelHandle, memory_of_request};
use crate::pipeline::TemplateKey;
use crate::step::Workflow;

/// Delay of a task for which there is no memory.
const NO_MEMORY_DELAY: Duration = Duration::from_millis(500);

/// Delay of a task that another replica starts.
const DRAINED_DELAY: Duration = Duration::from_hours(24);

impl Replica {
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start {
                    task,
                    workflow,
                    template,
                } => self.start(task, workflow, template),
                Action::Write(set) => {
                    self.unwritten.insert(set);
                }
                Action::Forget(task) => {
                    if let Some(running) = self.running.remove(&task) {
                        running.cancel.abandon();
                    }
                }
            }
        }
    }

    fn start(&mut self, task: TaskKey, workflow: Workflow, template: Value) {
        if self.is_draining {
            // The next owner starts the task.
            let at = Instant::now() + DRAINED_DELAY;
            return self.index.postponed(&task, template, at);
        }
        let scope = workflow.scope();
        let execution = match Execution::new(&task, workflow, &template) {
            Ok(execution) => execution,
            Err(report) => return self.ended(&task, report),
        };
        let memory = memory_of_request(template.to_string().as_bytes());
        if memory > self.room.largest() {
            let message = "the template has too many values; pass large values as artifacts";
            return self.ended(&task, NodeReport::of(Reply::error(message)));
        }
        let key = TemplateKey::of(&scope, execution.template());
        let Some(usage) = self.room.take(key, memory) else {
            let at = Instant::now() + NO_MEMORY_DELAY;
            return self.index.postponed(&task, template, at);
        };
        self.started += 1;
        let running = Running {
            number: self.started,
            cancel: CancelHandle::new(self.shutdown.child_token()),
            usage: Arc::new(usage),
        };
        self.spawn(task.clone(), execution, &running);
        self.running.insert(task, running);
    }

    fn spawn(&self, task: TaskKey, execution: Execution, running: &Running) {
        let number = running.number;
        let report_after = execution.report_after();
        let reports = self.work.reports.clone();
        // The box keeps the future of a step in one place: a future is several KiB, and each move
        // would copy it.
        let mut run = Box::pin(execution.run(Arc::clone(&self.executions), running.cancel.clone()));
        let usage = Arc::clone(&running.usage);
        self.start_work(async move {
            let early = match report_after {
                Some(after) => tokio::time::timeout(after, &mut run).await.ok(),
                None => Some((&mut run).await),
            };
            let report = if let Some(report) = early {
                report
            } else {
                let _ = reports.send(Report::StillRuns(task.clone(), number));
                run.await
            };
            usage.end(report.bytes());
            Report::Finished(task, number, report)
        });
    }

    /// The controller must learn that a task runs.
    pub(super) fn still_runs(&mut self, task: &TaskKey, number: u64) {
        if self.is_current(task, number) {
            self.index.report_running(task);
            self.unwritten.insert(task.set.clone());
        }
    }

    /// An execution has ended.
    pub(super) fn finished(&mut self, task: &TaskKey, number: u64, report: NodeReport) {
        // After the shutdown, the result can be an effect of the shutdown.
        if self.is_current(task, number) && !self.shutdown.is_cancelled() {
            self.ended(task, report);
        }
    }

    fn ended(&mut self, task: &TaskKey, report: NodeReport) {
        self.index.finished(task, report);
        self.unwritten.insert(task.set.clone());
    }

    fn is_current(&self, task: &TaskKey, number: u64) -> bool {
        let running = self.running.get(task);
        running.is_some_and(|running| running.number == number)
    }
}
