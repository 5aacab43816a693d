//! TaskSets without a living owner, and the claims of them that are on their way.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::backoff::backoff;
use super::ids::SetUid;
use super::index::Origin;
use super::target::Target;
use crate::kubernetes::{Listed, Metadata};

/// Delay after a claim that failed twice.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Number of claims at a time.
const MAX_CLAIMS: usize = 32;

/// TaskSets without a living owner.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    known: HashMap<SetUid, Candidate>,
    /// When claims may begin. An entry can be outdated: the state of the candidate decides.
    due: BTreeSet<(Instant, SetUid)>,
    /// The claims that are on their way.
    claiming: HashMap<SetUid, Target>,
}

#[derive(Debug)]
struct Candidate {
    target: Target,
    state: State,
    failures: u32,
    /// Whether the log has a warning about the TaskSet.
    is_reported: bool,
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

impl Candidates {
    /// Takes a version of a TaskSet that has no owner, or a dead one. A claim may begin at `due`.
    pub(super) fn applied(&mut self, target: Target, due: Instant) {
        let uid = target.uid.clone();
        let Some(candidate) = self.known.get_mut(&uid) else {
            let candidate = Candidate {
                target,
                state: State::Due(due),
                failures: 0,
                is_reported: false,
            };
            self.known.insert(uid.clone(), candidate);
            self.due.insert((due, uid));
            return;
        };
        if target.version.is_older_than(&candidate.target.version) {
            return;
        }
        // Tasks are in `spec`, and a change of `spec` makes a new generation. Another owner can
        // have died.
        let has_other_owner = target.owner != candidate.target.owner;
        if let State::NotOurs(generation) = candidate.state
            && (generation != target.generation || has_other_owner)
        {
            candidate.state = State::Due(due);
            self.due.insert((due, uid));
        }
        candidate.target = target;
    }

    /// The TaskSet is deleted, completed, or has an owner. A TaskSet that is known with an owner
    /// stays: the watch of TaskSets with the own label reports its end.
    pub(super) fn without_owner_removed(&mut self, uid: &SetUid) {
        let candidate = self.known.get(uid);
        if candidate.is_some_and(|candidate| candidate.target.owner.is_none()) {
            self.known.remove(uid);
        }
    }

    /// The TaskSet is deleted or completed.
    pub(super) fn removed(&mut self, uid: &SetUid) {
        self.known.remove(uid);
    }

    /// How this replica gets the TaskSet of this version, if the version is a result of a claim
    /// that is on its way.
    pub(super) fn claiming(&self, metadata: &Metadata) -> Option<Origin> {
        let target = self.claiming.get(&*metadata.uid)?;
        let is_later = target.version.is_older_than(&metadata.resource_version);
        is_later.then(|| origin(target))
    }

    /// Forgets the TaskSets without an owner that are not in the list.
    pub(super) fn listed_without_owner(&mut self, listed: &Listed) {
        self.known.retain(|uid, candidate| {
            let is_newer = listed.version.is_older_than(&candidate.target.version);
            candidate.target.owner.is_some() || is_newer || listed.uids.contains(&**uid)
        });
    }

    /// Forgets the TaskSets of dead replicas that are not in `found`.
    pub(super) fn retain_dead(&mut self, found: &[Target], own: &str) {
        let found: HashSet<&SetUid> = found.iter().map(|target| &target.uid).collect();
        self.known.retain(|uid, candidate| {
            let owner = candidate.target.owner.as_deref();
            let is_of_other = owner.is_some_and(|owner| owner != own);
            !is_of_other || found.contains(uid)
        });
    }

    /// The TaskSets whose claims must begin now. If the owner of a TaskSet is alive, the TaskSet is
    /// forgotten.
    pub(super) fn begin(&mut self, is_alive: impl Fn(&str) -> bool, now: Instant) -> Vec<Target> {
        let mut begun = Vec::new();
        while self.claiming.len() < MAX_CLAIMS
            && let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((at, uid)) = self.due.pop_first()
        {
            let Some(candidate) = self.known.get_mut(&uid) else {
                continue;
            };
            if candidate.target.owner.as_deref().is_some_and(&is_alive) {
                self.known.remove(&uid);
                continue;
            }
            if candidate.state == State::Due(at) && !self.claiming.contains_key(&uid) {
                candidate.state = State::Claiming;
                self.claiming.insert(uid, candidate.target.clone());
                begun.push(candidate.target.clone());
            }
        }
        begun
    }

    /// When the next claim is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let (at, _) = self.due.first()?;
        (self.claiming.len() < MAX_CLAIMS).then_some(*at)
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
            self.claim_at(uid, now + delay);
        }
    }

    /// The TaskSet has no task of this plugin. `generation` is the one that the claim was for.
    pub(super) fn not_ours(&mut self, uid: &SetUid, generation: i64, now: Instant) {
        let Some(candidate) = self.ended(uid) else {
            return;
        };
        candidate.failures = 0;
        match candidate.target.generation == generation {
            true => candidate.state = State::NotOurs(generation),
            false => self.claim_at(uid, now),
        }
    }

    /// Whether this is the first warning about the TaskSet.
    pub(super) fn is_first_warning(&mut self, uid: &SetUid) -> bool {
        let candidate = self.known.get_mut(uid);
        candidate.is_some_and(|candidate| !std::mem::replace(&mut candidate.is_reported, true))
    }

    /// This replica owns the TaskSet now. Returns how it got the TaskSet.
    pub(super) fn claimed(&mut self, uid: &SetUid) -> Origin {
        self.known.remove(uid);
        let target = self.claiming.remove(uid);
        target.map_or(Origin::TakenOver, |target| origin(&target))
    }

    fn ended(&mut self, uid: &SetUid) -> Option<&mut Candidate> {
        self.claiming.remove(uid);
        self.known.get_mut(uid)
    }

    fn claim_at(&mut self, uid: &SetUid, at: Instant) {
        if let Some(candidate) = self.known.get_mut(uid) {
            candidate.state = State::Due(at);
            self.due.insert((at, uid.clone()));
        }
    }
}

/// How this replica gets the TaskSet.
fn origin(target: &Target) -> Origin {
    match target.owner {
        Some(_) => Origin::TakenOver,
        None => Origin::New,
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::REPLICA;
    use super::*;

    fn metadata(uid: &str, version: i64, owner: Option<&str>) -> Metadata {
        let labels = owner.map(|owner| (REPLICA.to_owned(), owner.to_owned()));
        Metadata {
            uid: uid.into(),
            generation: version,
            resource_version: version.to_string().as_str().into(),
            labels: labels.into_iter().collect(),
            ..Metadata::default()
        }
    }

    fn target(uid: &str, version: i64, owner: Option<&str>) -> Target {
        Target::of(&metadata(uid, version, owner))
    }

    fn begun(candidates: &mut Candidates, now: Instant) -> Vec<String> {
        let begun = candidates.begin(|owner| owner == "alive", now);
        begun.iter().map(|target| target.uid.to_string()).collect()
    }

    #[test]
    fn a_claim_begins_when_it_is_due_and_only_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, None), later);
        candidates.applied(target("a", 2, None), now);
        assert_eq!(begun(&mut candidates, now), [""; 0]);
        assert_eq!(candidates.next(), Some(later));
        assert_eq!(begun(&mut candidates, later), ["a"]);
        assert_eq!(candidates.claiming(&metadata("a", 2, None)), None);
        let claimed = metadata("a", 3, Some("own"));
        assert_eq!(candidates.claiming(&claimed), Some(Origin::New));
        assert_eq!(begun(&mut candidates, later), [""; 0]);
        candidates.failed(&"a".into(), later);
        assert_eq!(begun(&mut candidates, later), ["a"]);
    }

    #[test]
    fn a_set_of_others_is_looked_at_again_when_its_tasks_change() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, None), now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
        candidates.not_ours(&"a".into(), 1, now);
        candidates.applied(target("a", 1, None), now);
        assert_eq!(begun(&mut candidates, now), [""; 0]);
        candidates.applied(target("a", 2, None), now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
    }

    #[test]
    fn only_sets_of_dead_replicas_are_taken_over() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, Some("alive")), now);
        candidates.applied(target("b", 1, Some("dead")), now);
        assert_eq!(begun(&mut candidates, now), ["b"]);
        assert_eq!(candidates.claimed(&"b".into()), Origin::TakenOver);
    }

    #[test]
    fn a_list_of_sets_without_an_owner_keeps_the_sets_of_dead_replicas() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, None), now);
        candidates.applied(target("b", 1, Some("dead")), now);
        candidates.applied(target("c", 9, None), now);
        candidates.listed_without_owner(&Listed {
            version: "5".into(),
            ..Listed::default()
        });
        assert_eq!(
            begun(&mut candidates, now),
            ["b", "c"],
            "`c` is newer than the list"
        );
    }
}
