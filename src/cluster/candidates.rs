//! TaskSets without a living owner, and the claims of them that are on their way.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::backoff::backoff;
use super::claim::owner;
use super::ids::SetUid;
use super::index::Origin;
use crate::kubernetes::Metadata;

/// Delay after a claim that failed twice.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Number of claims at a time.
const MAX_CLAIMS: usize = 32;

/// TaskSets without a living owner.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    known: HashMap<SetUid, Candidate>,
    /// The claims that are on their way.
    claiming: HashMap<SetUid, Origin>,
}

#[derive(Debug)]
struct Candidate {
    metadata: Metadata,
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A claim may begin at this time.
    Due(Instant),
    /// A claim is on its way.
    Claiming,
    /// The TaskSet had no task of this plugin at this generation.
    NotOurs(i64),
}

impl Candidate {
    /// The dead replica that owns the TaskSet; `None` if the TaskSet has no owner.
    fn owner(&self) -> Option<&str> {
        owner(&self.metadata)
    }

    fn origin(&self) -> Origin {
        match self.owner() {
            Some(_) => Origin::TakenOver,
            None => Origin::New,
        }
    }
}

impl Candidates {
    /// Takes a version of a TaskSet that has no owner, or a dead one. A claim may begin at `due`.
    pub(super) fn applied(&mut self, metadata: Metadata, due: Instant) {
        let candidate = self
            .known
            .entry(SetUid::of(&metadata))
            .or_insert_with(|| Candidate {
                metadata: metadata.clone(),
                state: State::Due(due),
                failures: 0,
            });
        // Tasks are in `spec`, and a change of `spec` makes a new generation. Another owner can
        // have died.
        let has_changed = owner(&metadata) != candidate.owner();
        if let State::NotOurs(generation) = candidate.state
            && (generation != metadata.generation || has_changed)
        {
            candidate.state = State::Due(due);
        }
        candidate.metadata = metadata;
    }

    /// The TaskSet is deleted, completed, or has an owner. A TaskSet that is known with an owner
    /// stays: the watch of TaskSets with the own label reports its end.
    pub(super) fn without_owner_removed(&mut self, uid: &SetUid) {
        let candidate = self.known.get(uid);
        if candidate.is_some_and(|candidate| candidate.owner().is_none()) {
            self.known.remove(uid);
        }
    }

    /// The TaskSet is deleted or completed.
    pub(super) fn removed(&mut self, uid: &SetUid) {
        self.known.remove(uid);
    }

    /// Whether this replica claims the TaskSet now, and how it gets the TaskSet.
    pub(super) fn claiming(&self, uid: &SetUid) -> Option<Origin> {
        self.claiming.get(uid).copied()
    }

    /// Forgets the TaskSets without an owner that are not in the list.
    pub(super) fn retain_without_owner(&mut self, all: &[Metadata]) {
        let listed: HashSet<SetUid> = all.iter().map(SetUid::of).collect();
        self.known
            .retain(|uid, candidate| candidate.owner().is_some() || listed.contains(uid));
    }

    /// Forgets the TaskSets of other replicas that are not in the list.
    pub(super) fn retain_dead(&mut self, all: &[Metadata], own: &str) {
        let listed: HashSet<SetUid> = all.iter().map(SetUid::of).collect();
        self.known.retain(|uid, candidate| {
            let is_of_other = candidate.owner().is_some_and(|owner| owner != own);
            !is_of_other || listed.contains(uid)
        });
    }

    /// The TaskSets whose claims must begin now. The owners of the others are alive.
    pub(super) fn begin(&mut self, is_alive: impl Fn(&str) -> bool, now: Instant) -> Vec<Metadata> {
        self.known
            .retain(|_, candidate| !candidate.owner().is_some_and(&is_alive));
        let free = MAX_CLAIMS.saturating_sub(self.claiming.len());
        let claiming = &mut self.claiming;
        let due = self.known.iter_mut().filter(|(uid, candidate)| {
            let is_due = matches!(candidate.state, State::Due(at) if at <= now);
            is_due && !claiming.contains_key(*uid)
        });
        let due: Vec<_> = due.take(free).collect();
        let begun = due.into_iter().map(|(uid, candidate)| {
            claiming.insert(uid.clone(), candidate.origin());
            candidate.state = State::Claiming;
            candidate.metadata.clone()
        });
        begun.collect()
    }

    /// When the next claim is due.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.claiming.len() >= MAX_CLAIMS {
            return None;
        }
        let idle = self.known.iter();
        let idle = idle.filter(|(uid, _)| !self.claiming.contains_key(*uid));
        let times = idle.filter_map(|(_, candidate)| match candidate.state {
            State::Due(at) => Some(at),
            State::Claiming | State::NotOurs(_) => None,
        });
        times.min()
    }

    /// Whether a claim is in progress.
    pub(super) fn is_claiming(&self) -> bool {
        !self.claiming.is_empty()
    }

    /// A claim has failed, and must be tried again.
    pub(super) fn failed(&mut self, uid: &SetUid, now: Instant) {
        if let Some(candidate) = self.ended(uid) {
            // Often the controller has just changed the TaskSet. So the first delay is zero.
            let delay = match candidate.failures {
                0 => Duration::ZERO,
                failures => backoff(FIRST_DELAY, failures - 1),
            };
            candidate.failures += 1;
            candidate.state = State::Due(now + delay);
        }
    }

    /// The TaskSet has no task of this plugin. `generation` is the one that the claim was for.
    pub(super) fn not_ours(&mut self, uid: &SetUid, generation: i64, now: Instant) {
        if let Some(candidate) = self.ended(uid) {
            candidate.failures = 0;
            candidate.state = match candidate.metadata.generation == generation {
                true => State::NotOurs(generation),
                false => State::Due(now),
            };
        }
    }

    /// This replica owns the TaskSet now. Returns how it got the TaskSet.
    pub(super) fn claimed(&mut self, uid: &SetUid) -> Origin {
        self.known.remove(uid);
        self.claiming.remove(uid).unwrap_or(Origin::TakenOver)
    }

    fn ended(&mut self, uid: &SetUid) -> Option<&mut Candidate> {
        self.claiming.remove(uid);
        self.known.get_mut(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::claim::REPLICA;
    use super::*;

    fn metadata(uid: &str, generation: i64, owner: Option<&str>) -> Metadata {
        let labels = owner.map(|owner| (REPLICA.to_owned(), owner.to_owned()));
        Metadata {
            uid: uid.into(),
            generation,
            labels: labels.into_iter().collect(),
            ..Metadata::default()
        }
    }

    fn begun(candidates: &mut Candidates, now: Instant) -> Vec<String> {
        let begun = candidates.begin(|owner| owner == "alive", now);
        begun.into_iter().map(|metadata| metadata.uid).collect()
    }

    #[test]
    fn a_claim_begins_when_it_is_due_and_only_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut candidates = Candidates::default();
        candidates.applied(metadata("a", 1, None), later);
        candidates.applied(metadata("a", 2, None), now);
        assert_eq!(begun(&mut candidates, now), [""; 0]);
        assert_eq!(candidates.next(), Some(later));
        assert_eq!(begun(&mut candidates, later), ["a"]);
        assert_eq!(candidates.claiming(&"a".into()), Some(Origin::New));
        assert_eq!(begun(&mut candidates, later), [""; 0]);
        candidates.failed(&"a".into(), later);
        assert_eq!(begun(&mut candidates, later), ["a"]);
    }

    #[test]
    fn a_set_of_others_is_looked_at_again_when_its_tasks_change() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(metadata("a", 1, None), now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
        candidates.not_ours(&"a".into(), 1, now);
        candidates.applied(metadata("a", 1, None), now);
        assert_eq!(begun(&mut candidates, now), [""; 0]);
        candidates.applied(metadata("a", 2, None), now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
    }

    #[test]
    fn only_sets_of_dead_replicas_are_taken_over() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(metadata("a", 1, Some("alive")), now);
        candidates.applied(metadata("b", 1, Some("dead")), now);
        assert_eq!(begun(&mut candidates, now), ["b"]);
        assert_eq!(candidates.claimed(&"b".into()), Origin::TakenOver);
    }

    #[test]
    fn a_list_of_sets_without_an_owner_keeps_the_sets_of_dead_replicas() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(metadata("a", 1, None), now);
        candidates.applied(metadata("b", 1, Some("dead")), now);
        candidates.retain_without_owner(&[]);
        assert_eq!(begun(&mut candidates, now), ["b"]);
    }
}
