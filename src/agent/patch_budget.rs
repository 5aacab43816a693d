//! The patch budget: limits the bytes of results that the agent gets at once.
//!
//! The agent collects results, and writes all results of an interval into one object with one
//! patch. The API server refuses an object that is too large, and then every node of the patch
//! becomes an Error (`workflow/executor/agent.go`, `patchWorker`).
//!
//! So each workflow has a budget of bytes for a sliding window of one interval. A result that does
//! not fit is postponed to the end of the window. Two rules prevent starvation of large results:
//!
//! - a result that is larger than the budget is delivered if the window is empty
//! - a result that was refused for longer than an interval reserves its bytes: other results may
//!   use only the rest

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::call_key::CallKey;

/// Bytes of results in one interval. The object may have 1.5 MB, with everything else in it.
const BUDGET: usize = 512 << 10;

/// How late a refused call may come before its reservation is dropped.
const LATE: Duration = Duration::from_secs(30);

/// Budgets of all workflows.
#[derive(Debug)]
pub struct PatchBudget {
    /// Time between two patches of the agent, `ARGO_AGENT_PATCH_RATE`.
    interval: Duration,
    workflows: Mutex<HashMap<String, Window>>,
}

/// Results of one workflow.
#[derive(Debug, Default)]
struct Window {
    /// Results that were delivered in the last interval.
    delivered: VecDeque<Delivered>,
    /// Results that were refused, in the order of the first refusal.
    refused: VecDeque<Refused>,
}

#[derive(Debug)]
struct Delivered {
    at: Instant,
    bytes: usize,
}

#[derive(Debug)]
struct Refused {
    key: CallKey,
    bytes: usize,
    /// Time of the first refusal.
    since: Instant,
    /// When the next call is expected.
    due: Instant,
}

impl Window {
    /// Removes deliveries that are older than the interval, and refused results whose next call
    /// did not come. Returns whether the window is in use.
    fn expire(&mut self, interval: Duration, now: Instant) -> bool {
        self.delivered
            .retain(|delivered| now.duration_since(delivered.at) < interval);
        self.refused
            .retain(|refused| now.duration_since(refused.due) < LATE);
        !(self.delivered.is_empty() && self.refused.is_empty())
    }

    /// Bytes that are delivered, or reserved for another result than `key`.
    fn used(&self, key: &CallKey, interval: Duration, now: Instant) -> usize {
        let delivered: usize = self.delivered.iter().map(|delivered| delivered.bytes).sum();
        let reserved = self
            .refused
            .front()
            .filter(|refused| refused.key != *key && now.duration_since(refused.since) >= interval);
        delivered + reserved.map_or(0, |refused| refused.bytes)
    }

    fn deliver(&mut self, key: &CallKey, bytes: usize, now: Instant) {
        if let Some(at) = self.refused.iter().position(|refused| refused.key == *key) {
            self.refused.remove(at);
        }
        self.delivered.push_back(Delivered { at: now, bytes });
    }

    fn refuse(&mut self, key: &CallKey, bytes: usize, due: Instant, now: Instant) {
        match self.refused.iter_mut().find(|refused| refused.key == *key) {
            Some(refused) => refused.due = due,
            None => self.refused.push_back(Refused {
                key: key.clone(),
                bytes,
                since: now,
                due,
            }),
        }
    }
}

impl PatchBudget {
    /// Makes budgets for an agent that patches at this interval.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            workflows: Mutex::default(),
        }
    }

    /// Spends `bytes` of the workflow's budget on the result of a call.
    ///
    /// # Errors
    ///
    /// The result does not fit now. The error is the time after which to try again.
    pub fn spend(
        &self,
        workflow: &str,
        key: &CallKey,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut workflows = self.workflows.lock();
        workflows.retain(|_, window| window.expire(self.interval, now));
        let window = workflows.entry(workflow.to_owned()).or_default();
        let used = window.used(key, self.interval, now);
        if used == 0 || used + bytes <= BUDGET {
            window.deliver(key, bytes, now);
            return Ok(());
        }
        let first = window.delivered.front().map_or(now, |first| first.at);
        let wait = self.interval.saturating_sub(now.duration_since(first));
        window.refuse(key, bytes, now + wait, now);
        Err(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_beyond_the_budget_wait_for_the_next_interval_of_their_workflow() {
        let budget = PatchBudget::new(Duration::from_secs(10));
        let start = Instant::now();
        let spend = |workflow: &str, key: &str, bytes, second| {
            budget.spend(
                workflow,
                &CallKey::of(key.as_bytes()),
                bytes,
                start + Duration::from_secs(second),
            )
        };
        assert_eq!(spend("a", "1", BUDGET, 0), Ok(()));
        assert_eq!(spend("a", "2", 1, 4), Err(Duration::from_secs(6)));
        assert_eq!(
            spend("b", "3", 1, 4),
            Ok(()),
            "another workflow has an object of its own"
        );
        assert_eq!(spend("a", "2", 1, 10), Ok(()));
        for second in 30..50 {
            assert_eq!(spend("a", "4", BUDGET / 10, second), Ok(()));
        }
    }

    /// 200 results of 20 KiB: each interval delivers about as many bytes as the budget has.
    #[test]
    fn many_results_use_the_whole_budget_of_each_interval() {
        let budget = PatchBudget::new(Duration::from_secs(10));
        let start = Instant::now();
        let mut waiting: Vec<(u64, CallKey)> = (0..200)
            .map(|number: u64| (0, CallKey::of(&number.to_le_bytes())))
            .collect();
        let mut second = 0;
        while !waiting.is_empty() {
            let now = start + Duration::from_secs(second);
            waiting.retain_mut(|(due, key)| {
                if *due > second {
                    return true;
                }
                match budget.spend("a", key, 20 << 10, now) {
                    Ok(()) => false,
                    Err(wait) => {
                        *due = second + wait.as_secs() + 1;
                        true
                    }
                }
            });
            second += 1;
        }
        assert!(second <= 110, "{second} s for 4 MB, 512 kB in each ten");
    }

    #[test]
    fn a_large_result_is_delivered_among_many_small_ones() {
        let budget = PatchBudget::new(Duration::from_secs(10));
        let start = Instant::now();
        let spend = |key: &str, bytes, second| {
            budget.spend(
                "a",
                &CallKey::of(key.as_bytes()),
                bytes,
                start + Duration::from_secs(second),
            )
        };
        let delivered = (0..60).find(|second| {
            let _ = spend(&format!("small {second}"), 60 << 10, *second);
            spend("large", BUDGET + 1, *second).is_ok()
        });
        assert!(
            delivered.is_some_and(|second| second <= 21),
            "{delivered:?}"
        );
    }
}
