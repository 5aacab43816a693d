//! How much is given to the agent at once.
//!
//! It puts all results of an interval into one object, which the API server refuses when it is too large; then every node in it becomes an
//! error (`workflow/executor/agent.go`, `patchWorker`). So what is more waits for the next interval.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// `ARGO_AGENT_PATCH_RATE`
const INTERVAL: Duration = Duration::from_secs(10);
/// The object may have 1.5 MB, with everything else that is in it.
const MOST: usize = 512 << 10;

/// What was given in the last interval, by workflow.
#[derive(Debug, Default)]
pub struct Pacing {
    given: Mutex<HashMap<String, VecDeque<(Instant, usize)>>>,
}

impl Pacing {
    /// Counts a reply of so many bytes; when to come again, where it is too much for now. What is too large by itself goes alone.
    pub fn give(&self, workflow: &str, bytes: usize, now: Instant) -> Result<(), Duration> {
        let mut all = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, given| {
            given.retain(|(when, _)| now.duration_since(*when) < INTERVAL);
            !given.is_empty()
        });
        let given = all.entry(workflow.to_owned()).or_default();
        let sum: usize = given.iter().map(|(_, bytes)| bytes).sum();
        match given.front() {
            Some((first, _)) if sum + bytes > MOST => Err(INTERVAL.saturating_sub(now.duration_since(*first))),
            _ => {
                given.push_back((now, bytes));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_waits_for_its_workflow() {
        let (pacing, start) = (Pacing::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pacing.give("a", MOST, start), Ok(()));
        assert_eq!(pacing.give("a", 1, after(4)), Err(Duration::from_secs(6)));
        assert_eq!(pacing.give("b", 1, after(4)), Ok(()), "another workflow has an object of its own");
        assert_eq!(pacing.give("a", 2 * MOST, after(10)), Ok(()), "alone");
        assert_eq!(pacing.give("a", 1, after(11)), Err(Duration::from_secs(9)));
        for second in 20..40 {
            assert_eq!(pacing.give("a", MOST / 10, after(second)), Ok(()));
        }
    }
}
