//! How much is given to the agent at once.
//!
//! It puts all results of an interval into one object, which the API server refuses when it is too large; then every node in it becomes an
//! error (`workflow/executor/agent.go`, `patchWorker`). So what is more waits for the next interval.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::calls::Key;

/// The object may have 1.5 MB, with everything else that is in it.
const MOST: usize = 512 << 10;

/// Who was refused and is so late has gone away.
const GONE: Duration = Duration::from_secs(30);

/// What was given in the last interval, by workflow, and who waits.
#[derive(Debug)]
pub struct Pacing {
    /// `ARGO_AGENT_PATCH_RATE`
    interval: Duration,
    workflows: Mutex<HashMap<String, Workflow>>,
}

#[derive(Debug, Default)]
struct Workflow {
    given: VecDeque<(Instant, usize)>,
    /// The first comes first.
    refused: VecDeque<Refused>,
}

/// Somebody who was sent away.
#[derive(Debug)]
struct Refused {
    who: Key,
    bytes: usize,
    since: Instant,
    /// When they are to come again.
    due: Instant,
}

impl Pacing {
    /// For an agent that hands on what it got at this interval.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            workflows: Mutex::default(),
        }
    }

    /// Counts a reply of so many bytes; when to come again, where it is too much for now. What is too large by itself goes alone, and whoever
    /// waited for longer than an interval goes before all others.
    pub fn give(
        &self,
        workflow: &str,
        who: &Key,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut all = self
            .workflows
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, workflow| {
            workflow
                .given
                .retain(|(when, _)| now.duration_since(*when) < self.interval);
            workflow
                .refused
                .retain(|refused| now.duration_since(refused.due) < GONE);
            !(workflow.given.is_empty() && workflow.refused.is_empty())
        });
        let Workflow { given, refused } = all.entry(workflow.to_owned()).or_default();
        let sum: usize = given.iter().map(|(_, bytes)| bytes).sum();
        // What is kept for whoever has waited for longest.
        let waited = |refused: &&Refused| {
            refused.who != *who && now.duration_since(refused.since) >= self.interval
        };
        let kept = refused
            .front()
            .filter(waited)
            .map_or(0, |first| first.bytes);
        if sum + kept > 0 && sum + kept + bytes > MOST {
            let first = given.front().map_or(now, |(first, _)| *first);
            let after = self.interval.saturating_sub(now.duration_since(first));
            match refused.iter_mut().find(|there| there.who == *who) {
                Some(there) => there.due = now + after,
                None => refused.push_back(Refused {
                    who: who.clone(),
                    bytes,
                    since: now,
                    due: now + after,
                }),
            }
            return Err(after);
        }
        if let Some(at) = refused.iter().position(|there| there.who == *who) {
            refused.remove(at);
        }
        given.push_back((now, bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_waits_for_its_workflow() {
        let (pacing, start) = (Pacing::new(Duration::from_secs(10)), Instant::now());
        let give = |workflow: &str, who: &str, bytes, second| {
            pacing.give(
                workflow,
                &Key::of(who.as_bytes()),
                bytes,
                start + Duration::from_secs(second),
            )
        };
        assert_eq!(give("a", "1", MOST, 0), Ok(()));
        assert_eq!(give("a", "2", 1, 4), Err(Duration::from_secs(6)));
        assert_eq!(
            give("b", "3", 1, 4),
            Ok(()),
            "another workflow has an object of its own"
        );
        assert_eq!(give("a", "2", 1, 10), Ok(()));
        for second in 30..50 {
            assert_eq!(give("a", "4", MOST / 10, second), Ok(()));
        }
    }

    /// Many that are not small are given as fast as the object allows: about as many bytes in each interval.
    #[test]
    fn many_are_given_as_fast_as_they_may() {
        let (pacing, start) = (Pacing::new(Duration::from_secs(10)), Instant::now());
        let mut waiting: Vec<(u64, Key)> = (0..200)
            .map(|number: u64| (0, Key::of(&number.to_le_bytes())))
            .collect();
        let mut second = 0;
        while !waiting.is_empty() {
            let now = start + Duration::from_secs(second);
            waiting.retain_mut(|(due, who)| {
                if *due > second {
                    return true;
                }
                match pacing.give("a", who, 20 << 10, now) {
                    Ok(()) => false,
                    Err(after) => {
                        *due = second + after.as_secs() + 1;
                        true
                    }
                }
            });
            second += 1;
        }
        assert!(second <= 110, "{second} s for 4 MB, 512 kB in each ten");
    }

    #[test]
    fn a_large_one_gets_its_turn_among_many_small_ones() {
        let (pacing, start) = (Pacing::new(Duration::from_secs(10)), Instant::now());
        let give = |who: &str, bytes, second| {
            pacing.give(
                "a",
                &Key::of(who.as_bytes()),
                bytes,
                start + Duration::from_secs(second),
            )
        };
        let came = (0..60).find(|second| {
            let _ = give(&format!("small {second}"), 60 << 10, *second);
            give("large", MOST + 1, *second).is_ok()
        });
        assert!(came.is_some_and(|second| second <= 21), "{came:?}");
    }
}
