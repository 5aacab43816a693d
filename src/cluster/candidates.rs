//! TaskSets without a living owner, and the claims of them that are on their way.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::backoff::backoff;
use super::ids::SetUid;
use super::index::Origin;
use super::target::{Target, owner};
use crate::kubernetes::{Listed, Metadata, Version};

/// Delay after a claim that failed twice.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Number of claims at a time.
const MAX_CLAIMS: usize = 32;
/// Additional time of the other replicas before they look at a TaskSet again that had no task of
/// this plugin.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time after which a claim is looked at again that could not begin.
const HELD_BACK: Duration = Duration::from_millis(500);

/// TaskSets without a living owner.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    known: HashMap<SetUid, Candidate>,
    /// When claims may begin. An entry can be outdated: the state of the candidate decides.
    due: BTreeSet<(Instant, SetUid)>,
    /// The claims that are on their way.
    claiming: HashMap<SetUid, Claiming>,
}

/// A claim that is on its way.
#[derive(Debug)]
struct Claiming {
    target: Target,
    /// The last version at which the TaskSet was deleted, completed, or of another owner.
    ended: Option<Version>,
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
    pub(super) fn applied(&mut self, target: Target, due: Instant, now: Instant) {
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
        // have died. Most TaskSets without tasks of this plugin never get one, so only the first
        // replica looks at once.
        let is_patient = due > now;
        let has_other_owner = target.owner != candidate.target.owner;
        if let State::NotOurs(generation) = candidate.state
            && (generation != target.generation || has_other_owner)
        {
            let due = if is_patient { due + PATIENCE } else { due };
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

    /// A TaskSet with the own label is deleted or completed, or has another owner now.
    pub(super) fn removed(&mut self, uid: &SetUid, version: &Version) {
        let known = self.known.get(uid);
        if known.is_some_and(|known| !version.is_older_than(&known.target.version)) {
            self.known.remove(uid);
        }
        if let Some(claiming) = self.claiming.get_mut(uid) {
            claiming.ended = Some(version.clone());
        }
    }

    /// What a version of a TaskSet with the own label says about the claim that is on its way.
    pub(super) fn claim_of(&self, metadata: &Metadata) -> ClaimOnItsWay {
        let Some(Claiming { target, .. }) = self.claiming.get(&*metadata.uid) else {
            return ClaimOnItsWay::None;
        };
        let is_later = target.version.is_older_than(&metadata.resource_version);
        if target.owner.as_deref() == owner(metadata) {
            // The label was there before. The claim verifies the Workflow first.
            ClaimOnItsWay::Verifies
        } else if is_later {
            ClaimOnItsWay::Succeeded(origin(target))
        } else {
            ClaimOnItsWay::Outdated
        }
    }

    /// Forgets the TaskSets with the label of this replica that are not in the list of them.
    pub(super) fn listed_with_label(&mut self, listed: &Listed, own: &str) {
        self.forget_unlisted(listed, |owner| owner == Some(own));
    }

    /// Forgets the TaskSets without an owner that are not in the list of them.
    pub(super) fn listed_without_owner(&mut self, listed: &Listed) {
        self.forget_unlisted(listed, |owner| owner.is_none());
    }

    /// Forgets each TaskSet whose owner is selected, if it is not in the list. A TaskSet that is
    /// newer than the list is kept.
    fn forget_unlisted(&mut self, listed: &Listed, is_selected: impl Fn(Option<&str>) -> bool) {
        self.known.retain(|uid, candidate| {
            let target = &candidate.target;
            let is_newer = listed.version.is_older_than(&target.version);
            !is_selected(target.owner.as_deref()) || is_newer || listed.uids.contains(&**uid)
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
    /// forgotten. If this replica may not claim it now, the claim is looked at again later.
    pub(super) fn begin(
        &mut self,
        is_alive: impl Fn(&str) -> bool,
        may_claim: impl Fn(&Target) -> bool,
        now: Instant,
    ) -> Vec<Target> {
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
            if candidate.state != State::Due(at) || self.claiming.contains_key(&uid) {
                continue;
            }
            if !may_claim(&candidate.target) {
                self.claim_at(&uid, now + HELD_BACK);
                continue;
            }
            candidate.state = State::Claiming;
            let target = candidate.target.clone();
            begun.push(target.clone());
            let ended = None;
            self.claiming.insert(uid, Claiming { target, ended });
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

    /// The TaskSet has no task of this plugin. `generation` is the one that the claim has read.
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

    /// This replica owns the TaskSet since this version. Returns how it got the TaskSet; `None` if
    /// the TaskSet has ended since.
    pub(super) fn claimed(&mut self, uid: &SetUid, version: &Version) -> Option<Origin> {
        let claim = self.claiming.remove(uid)?;
        let ended = claim.ended.as_ref();
        if ended.is_some_and(|ended| !ended.is_older_than(version)) {
            return None;
        }
        self.known.remove(uid);
        Some(origin(&claim.target))
    }

    /// The TaskSet of a claim does not exist any more, has ended, or belongs to another replica.
    pub(super) fn gone(&mut self, target: &Target, now: Instant) {
        let Some(candidate) = self.ended(&target.uid) else {
            return;
        };
        match candidate.target.version == target.version {
            true => drop(self.known.remove(&target.uid)),
            // There is news since the claim began.
            false => self.claim_at(&target.uid, now),
        }
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

/// What a version of a TaskSet says about the claim that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimOnItsWay {
    /// No claim is on its way.
    None,
    /// The version is older than the claim.
    Outdated,
    /// The claim has succeeded.
    Succeeded(Origin),
    /// The TaskSet had the label before the claim, which verifies it.
    Verifies,
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
        let begun = candidates.begin(|owner| owner == "alive", |_| true, now);
        begun.iter().map(|target| target.uid.to_string()).collect()
    }

    #[test]
    fn a_claim_begins_when_it_is_due_and_only_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, None), later, now);
        candidates.applied(target("a", 2, None), now, now);
        assert_eq!(begun(&mut candidates, now), [""; 0]);
        assert_eq!(candidates.next(), Some(later));
        assert_eq!(begun(&mut candidates, later), ["a"]);
        let before = metadata("a", 1, Some("own"));
        assert_eq!(candidates.claim_of(&before), ClaimOnItsWay::Outdated);
        let claimed = metadata("a", 3, Some("own"));
        let succeeded = ClaimOnItsWay::Succeeded(Origin::New);
        assert_eq!(candidates.claim_of(&claimed), succeeded);
        assert_eq!(begun(&mut candidates, later), [""; 0]);
        candidates.failed(&"a".into(), later);
        assert_eq!(begun(&mut candidates, later), ["a"]);
    }

    #[test]
    fn a_set_of_others_is_looked_at_again_when_its_tasks_change() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, None), now, now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
        candidates.not_ours(&"a".into(), 1, now);
        candidates.applied(target("a", 1, None), now, now);
        assert_eq!(begun(&mut candidates, now), [""; 0]);
        candidates.applied(target("a", 2, None), now, now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
    }

    #[test]
    fn only_sets_of_dead_replicas_are_taken_over() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, Some("alive")), now, now);
        candidates.applied(target("b", 1, Some("dead")), now, now);
        assert_eq!(begun(&mut candidates, now), ["b"]);
        let claimed = candidates.claimed(&"b".into(), &"2".into());
        assert_eq!(claimed, Some(Origin::TakenOver));
    }

    #[test]
    fn a_list_of_sets_without_an_owner_keeps_the_sets_of_dead_replicas() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, None), now, now);
        candidates.applied(target("b", 1, Some("dead")), now, now);
        candidates.applied(target("c", 9, None), now, now);
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

    /// The watch is faster than the answer to the claim.
    #[test]
    fn a_claim_whose_set_has_ended_since_is_dropped() {
        let now = Instant::now();
        for (ended, expected) in [("3", Some(Origin::New)), ("4", None), ("7", None)] {
            let mut candidates = Candidates::default();
            candidates.applied(target("a", 2, None), now, now);
            assert_eq!(begun(&mut candidates, now), ["a"]);
            candidates.removed(&"a".into(), &ended.into());
            let claimed = candidates.claimed(&"a".into(), &"4".into());
            assert_eq!(claimed, expected, "ended at {ended}");
        }
    }

    /// Another replica claims a set, and gives it back, while this replica's claim is on its way.
    #[test]
    fn a_set_that_another_replica_has_given_back_is_claimed_again() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        let first = target("a", 1, None);
        candidates.applied(first.clone(), now, now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
        candidates.without_owner_removed(&"a".into());
        candidates.applied(target("a", 3, None), now, now);
        candidates.gone(&first, now);
        assert_eq!(begun(&mut candidates, now), ["a"]);
        candidates.gone(&target("a", 3, None), now);
        assert_eq!(begun(&mut candidates, now), [""; 0]);
    }

    #[test]
    fn a_set_is_held_back_until_it_may_be_claimed() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.applied(target("a", 1, None), now, now);
        assert!(candidates.begin(|_| false, |_| false, now).is_empty());
        assert_eq!(candidates.next(), Some(now + HELD_BACK));
        assert_eq!(begun(&mut candidates, now + HELD_BACK), ["a"]);
    }
}
