//! Who runs next: so many steps at once, in so much memory.
//!
//! Steps of one kind are a class. A class that holds fewer places goes before one that holds more, and within a class it is first come, first served. A few places,
//! and memory for one more of its kind, are left by a class that holds some to those that hold none: however many long steps there are of one kind, a step
//! of another begins at once. Who would be next and waits for memory is overtaken by those who leave what it needs: it begins when those end who ran before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// How many places there are for each one that is left to classes that hold none.
const PLACES_PER_SPARE: u32 = 8;

/// What is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Steps at once.
    pub steps: u32,
    /// Bytes for the linear memories of all of them.
    pub memory: u64,
}

/// What a step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its class.
    pub class: u64,
    /// Bytes of linear memory, at most. One that asks for more than there is runs alone.
    pub memory: u64,
}

#[derive(Debug)]
pub(super) struct Places {
    capacity: Capacity,
    spare: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Claims of those who run, by when they began.
    running: HashMap<u64, Claim>,
    memory: u64,
    /// Places that a class holds; none that holds no place.
    held: HashMap<u64, u32>,
    waiting: HashMap<u64, VecDeque<Waiter>>,
    /// Numbers who comes and who begins, in this order.
    clock: u64,
    /// Who is next and waits for memory, and since when.
    blocked: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Waiter {
    came: u64,
    memory: u64,
    go: oneshot::Sender<Place>,
}

/// A step's place. Free for others when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    began: u64,
}

/// Whoever stops waiting may have been in the way of others.
struct Waiting<'a>(&'a Arc<Places>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.hand_out();
    }
}

impl Places {
    pub(super) fn new(capacity: Capacity) -> Arc<Self> {
        let spare = (capacity.steps / PLACES_PER_SPARE).max(u32::from(capacity.steps > 1));
        Arc::new(Self {
            capacity,
            spare,
            state: Mutex::default(),
        })
    }

    /// Waits for a place. Whoever stops waiting holds none.
    pub(super) async fn take(self: &Arc<Self>, claim: Claim) -> Place {
        let claim = Claim {
            memory: claim.memory.min(self.capacity.memory),
            ..claim
        };
        if let Some(place) = self.take_now(claim) {
            return place;
        }
        // Dropped after what it is called with, where this is dropped while it waits.
        let leaving = Waiting(self);
        let place = self.queue(claim).await;
        std::mem::forget(leaving);
        // The sender is in the queue until it is used.
        place.unwrap_or_else(|_| unreachable!("a waiter was forgotten"))
    }

    fn take_now(self: &Arc<Self>, claim: Claim) -> Option<Place> {
        let mut state = self.lock();
        let now = state.waiting.is_empty()
            && self.has_place(&state, claim)
            && self.has_memory(&state, claim);
        now.then(|| Place {
            places: Arc::clone(self),
            began: state.begin(claim),
        })
    }

    fn queue(self: &Arc<Self>, claim: Claim) -> oneshot::Receiver<Place> {
        let (go, gone) = oneshot::channel();
        let mut state = self.lock();
        let came = state.tick();
        state
            .waiting
            .entry(claim.class)
            .or_default()
            .push_back(Waiter {
                came,
                memory: claim.memory,
                go,
            });
        drop(state);
        self.hand_out();
        gone
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_place(&self, state: &State, claim: Claim) -> bool {
        let free = self.capacity.steps as usize - state.running.len();
        free > if state.held.contains_key(&claim.class) {
            self.spare as usize
        } else {
            0
        }
    }

    fn has_memory(&self, state: &State, claim: Claim) -> bool {
        let left = if state.held.contains_key(&claim.class) {
            claim.memory
        } else {
            0
        };
        state.memory + claim.memory + left <= self.capacity.memory
    }

    /// Gives what is free to those whose turn it is.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some((class, memory)) = self.next(&mut state) else {
                return;
            };
            let claim = Claim { class, memory };
            let Some(waiter) = state.pop(class) else {
                return;
            };
            let began = state.begin(claim);
            drop(state);
            // Where nobody waits any more, it is dropped, and free again.
            drop(waiter.go.send(Place {
                places: Arc::clone(self),
                began,
            }));
        }
    }

    /// Who begins now, if anybody can.
    fn next(&self, state: &mut State) -> Option<(u64, u64)> {
        state.forget_those_who_left();
        if state.running.len() >= self.capacity.steps as usize {
            return None;
        }
        let mut heads: Vec<(u32, u64, u64, u64)> = Vec::with_capacity(state.waiting.len());
        for (class, queue) in &state.waiting {
            let held = state.held.get(class).copied().unwrap_or_default();
            heads.extend(
                queue
                    .front()
                    .map(|waiter| (held, waiter.came, *class, waiter.memory)),
            );
        }
        heads.sort_unstable();
        let (_, came, class, memory) = *heads.first()?;
        if !self.has_place(state, Claim { class, memory }) {
            return None;
        }
        if self.has_memory(state, Claim { class, memory }) {
            return Some((class, memory));
        }
        // Others may go meanwhile, as long as it can when those end who ran before it was next.
        let now = state.clock;
        let since = match state.blocked {
            Some((blocked, since)) if blocked == came => since,
            _ => now,
        };
        state.blocked = Some((came, since));
        let overtook: u64 = state
            .running
            .iter()
            .filter(|(began, _)| **began > since)
            .map(|(_, claim)| claim.memory)
            .sum();
        // With what its class leaves to others. Where it could begin but for those who overtook it, they take nothing more of what it needs.
        let wanted = if state.held.contains_key(&class) {
            2 * memory
        } else {
            memory
        };
        let before = state.memory - overtook;
        let kept = if before + wanted <= self.capacity.memory {
            before + wanted
        } else {
            wanted
        };
        let fits = |claim: Claim| {
            self.has_place(state, claim)
                && self.has_memory(state, claim)
                && overtook + claim.memory + kept <= self.capacity.memory
        };
        let others = heads
            .into_iter()
            .skip(1)
            .map(|(_, _, class, memory)| Claim { class, memory });
        others
            .into_iter()
            .find(|claim| fits(*claim))
            .map(|claim| (claim.class, claim.memory))
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn begin(&mut self, claim: Claim) -> u64 {
        let began = self.tick();
        self.running.insert(began, claim);
        self.memory += claim.memory;
        *self.held.entry(claim.class).or_default() += 1;
        began
    }

    fn end(&mut self, began: u64) {
        let Some(claim) = self.running.remove(&began) else {
            return;
        };
        self.memory -= claim.memory;
        if let Some(held) = self.held.get_mut(&claim.class) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&claim.class);
            }
        }
    }

    fn forget_those_who_left(&mut self) {
        self.waiting.retain(|_, queue| {
            while queue.front().is_some_and(|waiter| waiter.go.is_closed()) {
                queue.pop_front();
            }
            !queue.is_empty()
        });
    }

    fn pop(&mut self, class: u64) -> Option<Waiter> {
        let queue = self.waiting.get_mut(&class)?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&class);
        }
        waiter
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.end(self.began);
        let nobody = state.waiting.is_empty();
        drop(state);
        if !nobody {
            self.places.hand_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn places(steps: u32, memory: u64) -> Arc<Places> {
        Places::new(Capacity { steps, memory })
    }

    fn claim(class: u64, memory: u64) -> Claim {
        Claim { class, memory }
    }

    fn now(places: &Arc<Places>, class: u64) -> Option<Place> {
        places.take(claim(class, 0)).now_or_never()
    }

    #[tokio::test]
    async fn however_many_there_are_of_one_another_begins() {
        let places = places(16, 0);
        let mut long: Vec<_> = (0..14).map(|_| now(&places, 1).unwrap()).collect();
        let more = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(claim(1, 0)).await }
        });
        tokio::task::yield_now().await;
        let (short, other) = (now(&places, 2).unwrap(), now(&places, 3).unwrap());
        assert!(now(&places, 4).is_none(), "all are taken");
        drop((short, other));
        tokio::task::yield_now().await;
        assert!(!more.is_finished(), "those are not for it");
        long.pop();
        more.await.unwrap();
    }

    #[tokio::test]
    async fn who_holds_fewer_goes_first() {
        let places = places(2, 0);
        let (one, two) = (now(&places, 1).unwrap(), now(&places, 2).unwrap());
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        for (number, class) in [(0, 1), (1, 1), (2, 1), (3, 3)] {
            let (places, sender) = (Arc::clone(&places), sender.clone());
            tokio::spawn(async move {
                let _place = places.take(claim(class, 0)).await;
                sender.send(number).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop((two, one));
        let came: Vec<u32> = [
            order.recv().await,
            order.recv().await,
            order.recv().await,
            order.recv().await,
        ]
        .map(Option::unwrap)
        .to_vec();
        assert_eq!(
            came,
            [3, 0, 1, 2],
            "a class that holds none, then in the order in which they came"
        );
    }

    fn taken(places: &Arc<Places>, class: u64, mib: u64) -> Option<Place> {
        places.take(claim(class, mib * MIB)).now_or_never()
    }

    #[tokio::test]
    async fn who_waits_for_memory_is_overtaken_by_what_leaves_it() {
        let places = places(16, 100 * MIB);
        let long = taken(&places, 1, 50).unwrap();
        let mut large = Box::pin(places.take(claim(2, 60 * MIB)));
        assert!(futures::poll!(&mut large).is_pending());
        let small = [
            taken(&places, 3, 10).unwrap(),
            taken(&places, 4, 30).unwrap(),
        ];
        assert!(
            taken(&places, 5, 10).is_none(),
            "then there would not be enough for the large one"
        );
        drop(long);
        let large = futures::poll!(&mut large);
        assert!(
            large.is_ready(),
            "it waits for none of those who came after it"
        );
        drop((large, small));
        assert!(
            taken(&places, 5, 200).is_some(),
            "more than there is: alone"
        );
        let state = places.lock();
        assert!(state.held.is_empty() && state.memory == 0 && state.running.is_empty());
    }

    #[tokio::test]
    async fn memory_is_left_to_classes_that_have_none() {
        let places = places(16, 300 * MIB);
        let mut long = vec![
            taken(&places, 1, 100).unwrap(),
            taken(&places, 1, 100).unwrap(),
        ];
        assert!(taken(&places, 1, 100).is_none());
        long.push(taken(&places, 2, 100).unwrap());
        assert!(taken(&places, 3, 100).is_none(), "all of it is taken");
    }

    /// Small steps that come and go do not keep a second large one of its class waiting.
    #[tokio::test]
    async fn a_class_that_holds_some_is_not_overtaken_for_ever() {
        let places = places(16, 100 * MIB);
        let _long = taken(&places, 1, 30).unwrap();
        let mut small: Vec<Place> = (0..4).map(|_| taken(&places, 2, 10).unwrap()).collect();
        let mut large = Box::pin(places.take(claim(1, 30 * MIB)));
        assert!(futures::poll!(&mut large).is_pending());
        for _ in 0..20 {
            if !small.is_empty() {
                small.remove(0);
            }
            small.extend(taken(&places, 2, 10));
        }
        assert!(futures::poll!(&mut large).is_ready());
    }

    /// Nobody has to come for those behind to go.
    #[tokio::test]
    async fn who_leaves_is_in_nobodys_way() {
        let places = places(16, 100 * MIB);
        let _long = taken(&places, 1, 50).unwrap();
        let mut large = Box::pin(places.take(claim(2, 100 * MIB)));
        assert!(futures::poll!(&mut large).is_pending());
        let mut small = Box::pin(places.take(claim(3, MIB)));
        assert!(
            futures::poll!(&mut small).is_pending(),
            "the large one needs all of it"
        );
        drop(large);
        assert!(futures::poll!(&mut small).is_ready());
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_nothing() {
        let places = places(1, 0);
        let only = now(&places, 1).unwrap();
        for _ in 0..3 {
            assert!(now(&places, 2).is_none());
        }
        let mut handed = Box::pin(places.take(claim(3, 0)));
        assert!(futures::poll!(&mut handed).is_pending());
        drop(only);
        // It was given its place, and never looks.
        drop(handed);
        assert!(now(&places, 4).is_some());
    }
}
