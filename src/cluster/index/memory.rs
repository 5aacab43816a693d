//! Results that the controller has taken, for tasks that come back.

use std::collections::{HashMap, VecDeque};

use super::task::TemplateDigest;
use crate::cluster::ids::{SetUid, TaskKey};
use crate::cluster::results::NodeReport;

/// Most bytes of all kept results together, with [`OVERHEAD`] for each.
const LIMIT: usize = 32 << 20;
/// Memory of a kept result, beyond its text, in bytes.
const OVERHEAD: usize = 256;

/// Delivered results of phase `Succeeded`. The oldest ones are dropped beyond the limit: then a
/// task that comes back runs again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    kept: HashMap<TaskKey, Kept>,
    order: VecDeque<(TaskKey, u64)>,
    bytes: usize,
    number: u64,
}

#[derive(Debug)]
struct Kept {
    template: TemplateDigest,
    report: NodeReport,
    number: u64,
}

impl Memory {
    /// Keeps a result. Results of other phases are not kept: their tasks run again.
    pub(super) fn keep(&mut self, task: TaskKey, template: TemplateDigest, report: &NodeReport) {
        if !report.has_succeeded() {
            return;
        }
        self.number += 1;
        let number = self.number;
        self.bytes += size(report);
        self.order.push_back((task.clone(), number));
        let kept = Kept {
            template,
            report: report.clone(),
            number,
        };
        if let Some(before) = self.kept.insert(task, kept) {
            self.bytes -= size(&before.report);
        }
        while self.bytes > LIMIT {
            self.drop_oldest();
        }
        // Results that were taken are still in the order.
        if self.order.len() > 2 * self.kept.len() + 16 {
            let kept = &self.kept;
            self.order
                .retain(|(task, number)| kept.get(task).is_some_and(|kept| kept.number == *number));
        }
    }

    /// Takes the result of a task that came back with the same template.
    pub(super) fn take(&mut self, task: &TaskKey, template: TemplateDigest) -> Option<NodeReport> {
        let kept = self.kept.remove(task)?;
        self.bytes -= size(&kept.report);
        (kept.template == template).then_some(kept.report)
    }

    /// Drops all results of a TaskSet.
    pub(super) fn forget_set(&mut self, set: &SetUid) {
        let bytes = &mut self.bytes;
        self.kept.retain(|task, kept| {
            let stays = task.set != *set;
            if !stays {
                *bytes -= size(&kept.report);
            }
            stays
        });
    }

    fn drop_oldest(&mut self) {
        let Some((task, number)) = self.order.pop_front() else {
            return;
        };
        if self
            .kept
            .get(&task)
            .is_some_and(|kept| kept.number == number)
            && let Some(kept) = self.kept.remove(&task)
        {
            self.bytes -= size(&kept.report);
        }
    }
}

fn size(report: &NodeReport) -> usize {
    OVERHEAD + report.bytes()
}
