//! Ranks: which replica tries first to claim a TaskSet.

use sources::Digest;

/// The rank of a replica for a TaskSet: the number of other replicas that try before it.
///
/// The order is that of rendezvous hashing
/// (<https://en.wikipedia.org/wiki/Rendezvous_hashing>): each replica computes the same order, and a
/// replica that comes or goes changes the order of few TaskSets.
pub(in crate::cluster) fn rank<'a>(
    own: &str,
    others: impl Iterator<Item = &'a str>,
    set: &str,
) -> usize {
    let weight = |replica: &str| Digest::of(format!("{replica}\n{set}").as_bytes());
    let own_weight = weight(own);
    let goes_first = |other: &&str| weight(other).hex() > own_weight.hex();
    others
        .filter(|other| *other != own)
        .filter(goes_first)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICAS: [&str; 3] = ["a", "b", "c"];

    #[test]
    fn the_ranks_of_all_replicas_are_different_and_each_replica_is_often_first() {
        let mut first = [0; 3];
        for set in 0..300 {
            let set = set.to_string();
            let ranks = REPLICAS.map(|own| rank(own, REPLICAS.into_iter(), &set));
            let mut sorted = ranks;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            first[ranks.iter().position(|rank| *rank == 0).unwrap()] += 1;
        }
        assert!(first.iter().all(|times| *times > 60), "{first:?}");
    }

    #[test]
    fn a_replica_that_goes_changes_only_the_sets_for_which_it_was_first() {
        for set in 0..100 {
            let set = set.to_string();
            let without_c = || ["a", "b"].into_iter();
            let was_first = rank("c", REPLICAS.into_iter(), &set) == 0;
            let before = rank("a", REPLICAS.into_iter(), &set) == 0;
            let after = rank("a", without_c(), &set) == 0;
            assert!(before == after || was_first);
        }
    }
}
