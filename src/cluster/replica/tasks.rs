//! Tasks of a replica: their start and their end.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::running::Running;
use super::{Replica, Report};
use crate::argo::Reply;
use crate::cluster::execution::Execution;
use crate::cluster::ids::TaskKey;
use crate::cluster::index::Action;
use crate::cluster::results::NodeReport;
use crate::cluster::waiting::WaitingTask;
use crate::executions::{CancelHandle, memory_of_request};
use crate::pipeline::TemplateKey;
use crate::step::Workflow;

impl Replica {
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start {
                    task,
                    workflow,
                    template,
                } => self.start(task, workflow, &template),
                Action::Write(set) => {
                    self.unwritten.insert(set);
                }
                Action::Forget(task) => {
                    self.waiting.remove(&task);
                    if let Some(running) = self.running.remove(&task) {
                        running.cancel.abandon();
                    }
                }
            }
        }
    }

    fn start(&mut self, task: TaskKey, workflow: Workflow, template: &Value) {
        if self.is_draining {
            return self.index.left_to_others(&task);
        }
        let name = template["name"].as_str().unwrap_or_default();
        let key = TemplateKey::of(&workflow.scope(), name);
        let template = template.to_string();
        let memory = memory_of_request(template.as_bytes());
        if memory > self.room.largest() {
            let message = "the template has too many values; pass large values as artifacts";
            return self.ended(&task, NodeReport::of(Reply::error(message)));
        }
        let waiting = WaitingTask {
            task,
            workflow,
            since: Instant::now(),
            key,
            memory,
            template: template.into(),
        };
        if !self.try_start(&waiting) {
            self.waiting.add(waiting);
        }
    }

    /// Starts the tasks for which there is memory now.
    pub(super) fn start_waiting(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.start(|waiting| self.try_start(waiting));
        self.waiting = waiting;
    }

    /// Starts a task, or ends it with an error. Returns false if the task must wait for memory.
    fn try_start(&mut self, waiting: &WaitingTask) -> bool {
        let Some(usage) = self.room.take(waiting.key, waiting.memory) else {
            return false;
        };
        let task = &waiting.task;
        let workflow = waiting.workflow.clone();
        let execution = match Execution::new(task, workflow, &waiting.template, &self.runners) {
            Ok(execution) => execution,
            Err(report) => {
                self.ended(task, report);
                return true;
            }
        };
        self.metrics.task_picked_up(waiting.since.elapsed());
        self.started += 1;
        let running = Running {
            number: self.started,
            cancel: CancelHandle::new(self.shutdown.child_token()),
            usage: Arc::new(usage),
        };
        self.spawn(task.clone(), execution, &running);
        self.running.insert(task.clone(), running);
        true
    }

    fn spawn(&mut self, task: TaskKey, execution: Execution, running: &Running) {
        let number = running.number;
        let report_after = execution.report_after();
        let reports = self.work.reports.clone();
        // The box keeps the future of a step in one place: a future is several KiB, and each move
        // would copy it.
        self.open += 1;
        let mut run =
            Box::pin(execution.run(Arc::clone(&self.runners.executions), running.cancel.clone()));
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
        self.open -= 1;
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
