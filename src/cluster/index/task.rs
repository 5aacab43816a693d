//! One task of a claimed TaskSet.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use serde_json::Value;

use crate::cluster::results::NodeReport;

/// Digest of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TemplateDigest(u64);

impl TemplateDigest {
    pub(super) fn of(template: &Value) -> Self {
        let mut hasher = DefaultHasher::new();
        template.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// One task of a claimed TaskSet.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) template: TemplateDigest,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// The task may have a result that the controller has just removed. It starts at `at`.
    Waits { template: Value, at: Instant },
    /// The next owner of the TaskSet starts the task.
    LeftToOthers,
    /// The execution of the task is running.
    Runs { report: RunningReport },
    /// The execution has ended.
    Ended {
        report: NodeReport,
        delivery: Delivery,
    },
    /// Another replica or another process has written the result.
    Answered,
}

/// Where the result of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The result is not in the TaskSet.
    Unwritten,
    /// The result is in the TaskSet since this time.
    Written { since: Instant },
    /// The controller has removed the result. It removes the task next. If the task is still there
    /// at this time, the controller has not stored the result: it is written again.
    Removed { until: Instant },
}

/// The phase `Running` of a task in the TaskSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunningReport {
    NotNeeded,
    Unwritten,
    Written,
}

impl Task {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Runs { .. })
    }

    /// Whether the task has not started, and another replica can start it at once.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.state, State::LeftToOthers)
    }

    /// Whether the task has not started here, or its result is written.
    pub(super) fn is_settled(&self) -> bool {
        match &self.state {
            State::LeftToOthers | State::Answered => true,
            State::Ended { delivery, .. } => *delivery != Delivery::Unwritten,
            State::Waits { .. } | State::Runs { .. } => false,
        }
    }

    /// Whether the task has not ended.
    pub(super) fn is_open(&self) -> bool {
        let state = &self.state;
        matches!(
            state,
            State::Runs { .. } | State::Waits { .. } | State::LeftToOthers
        )
    }

    /// The time of a timer has come.
    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        match &mut self.state {
            State::Waits { template, at } if *at <= now => {
                let template = template.take();
                self.state = State::RUNS;
                Tick::Start(template)
            }
            State::Ended { delivery, .. } => match delivery {
                Delivery::Removed { until } if *until <= now => {
                    *delivery = Delivery::Unwritten;
                    Tick::Write
                }
                _ => Tick::Nothing,
            },
            _ => Tick::Nothing,
        }
    }

    /// The report that must be written into the TaskSet.
    pub(super) fn unwritten(&self) -> Option<NodeReport> {
        match &self.state {
            State::Runs {
                report: RunningReport::Unwritten,
            } => Some(NodeReport::running()),
            State::Ended {
                report,
                delivery: Delivery::Unwritten,
            } => Some(report.clone()),
            _ => None,
        }
    }

    /// The report was written into the TaskSet. If the controller may have removed it since, the
    /// result is written again at `may_be_removed`, unless it is seen before. Returns whether
    /// [`tick`](Self::tick) must be called at that time.
    pub(super) fn written(
        &mut self,
        written: &NodeReport,
        may_be_removed: Option<Instant>,
        now: Instant,
    ) -> bool {
        match &mut self.state {
            State::Runs { report } if !written.has_ended() => *report = RunningReport::Written,
            State::Ended { delivery, .. }
                if written.has_ended() && *delivery == Delivery::Unwritten =>
            {
                *delivery = match may_be_removed {
                    Some(until) => Delivery::Removed { until },
                    None => Delivery::Written { since: now },
                };
                return may_be_removed.is_some();
            }
            _ => {}
        }
        false
    }

    /// The TaskSet has a result of the task. Returns false if the task still ran or waited: then
    /// the result is from another process.
    pub(super) fn has_result(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Answered
            | State::Ended {
                delivery: Delivery::Written { .. },
                ..
            } => {}
            State::Ended { delivery, .. } => *delivery = Delivery::Written { since: now },
            State::Waits { .. } | State::LeftToOthers | State::Runs { .. } => {
                self.state = State::Answered;
                return false;
            }
        }
        true
    }

    /// The TaskSet has no result of the task. Returns whether [`tick`](Self::tick) must be called
    /// at `until`.
    pub(super) fn has_no_result(&mut self, template: &Value, until: Instant) -> bool {
        match &mut self.state {
            State::Ended { delivery, .. } if matches!(delivery, Delivery::Written { .. }) => {
                *delivery = Delivery::Removed { until };
            }
            State::Answered => {
                self.state = State::Waits {
                    template: template.clone(),
                    at: until,
                };
            }
            _ => return false,
        }
        true
    }

    /// Since when the result is in the TaskSet.
    pub(super) fn written_since(&self) -> Option<Instant> {
        match &self.state {
            State::Ended {
                delivery: Delivery::Written { since },
                ..
            } => Some(*since),
            _ => None,
        }
    }

    /// The result, if the task has ended. It can have been in the TaskSet even if the answer to the
    /// write was lost.
    pub(super) fn result(&self) -> Option<&NodeReport> {
        match &self.state {
            State::Ended { report, .. } => Some(report),
            _ => None,
        }
    }
}

/// What a task needs at the time of a timer.
#[derive(Debug)]
pub(super) enum Tick {
    /// The task starts: its template.
    Start(Value),
    /// The result must be written again.
    Write,
    Nothing,
}

impl State {
    /// A task that has just started.
    pub(super) const RUNS: Self = Self::Runs {
        report: RunningReport::NotNeeded,
    };
}
