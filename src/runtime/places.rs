//! Who runs next: so many steps at once, in so much memory.
//!
//! Steps of one template are one class. A class that holds fewer places goes before one that holds more, and a few places are left to classes that hold none:
//! however many long steps of one template there are, a step of another begins at once. Within a class it is first come, first served. Nobody overtakes
//! who would be next and waits for memory alone.

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
    taken: u32,
    memory: u64,
    /// Places that a class holds; none that holds no place.
    held: HashMap<u64, u32>,
    waiting: HashMap<u64, VecDeque<Waiter>>,
    /// Numbers waiters in the order in which they came.
    came: u64,
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
    claim: Claim,
}

impl Places {
    pub(super) fn new(capacity: Capacity) -> Arc<Self> {
        let spare = (capacity.steps / PLACES_PER_SPARE).max(u32::from(capacity.steps > 1));
        Arc::new(Self { capacity, spare, state: Mutex::default() })
    }

    /// Waits for a place. Whoever stops waiting holds none.
    pub(super) async fn take(self: &Arc<Self>, claim: Claim) -> Place {
        let claim = Claim { memory: claim.memory.min(self.capacity.memory), ..claim };
        let waiting = {
            let mut state = self.lock();
            if state.waiting.is_empty() && self.fits(&state, claim) {
                state.take(claim);
                return Place { places: Arc::clone(self), claim };
            }
            let (go, gone) = oneshot::channel();
            state.came += 1;
            let waiter = Waiter { came: state.came, memory: claim.memory, go };
            state.waiting.entry(claim.class).or_default().push_back(waiter);
            gone
        };
        self.hand_out();
        // The sender is in the queue until it is used.
        waiting.await.unwrap_or_else(|_| unreachable!("a waiter was forgotten"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, claim: Claim) -> bool {
        let free = self.capacity.steps - state.taken;
        let others = if state.held.contains_key(&claim.class) { self.spare } else { 0 };
        free > others && (state.memory + claim.memory <= self.capacity.memory)
    }

    /// Gives what is free to those whose turn it is.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some((class, memory)) = state.next() else { return };
            let claim = Claim { class, memory };
            if !self.fits(&state, claim) {
                return;
            }
            let Some(waiter) = state.pop(class) else { return };
            state.take(claim);
            drop(state);
            // Where nobody waits any more, it is dropped, and free again.
            drop(waiter.go.send(Place { places: Arc::clone(self), claim }));
        }
    }
}

impl State {
    fn take(&mut self, claim: Claim) {
        self.taken += 1;
        self.memory += claim.memory;
        *self.held.entry(claim.class).or_default() += 1;
    }

    fn give_back(&mut self, claim: Claim) {
        self.taken -= 1;
        self.memory -= claim.memory;
        if let Some(held) = self.held.get_mut(&claim.class) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&claim.class);
            }
        }
    }

    /// The class whose turn it is, and what its first asks for. Those who stopped waiting are passed over.
    fn next(&mut self) -> Option<(u64, u64)> {
        self.waiting.retain(|_, queue| {
            while queue.front().is_some_and(|waiter| waiter.go.is_closed()) {
                queue.pop_front();
            }
            !queue.is_empty()
        });
        let held = &self.held;
        let order = |(class, queue): &(&u64, &VecDeque<Waiter>)| {
            (held.get(class).copied().unwrap_or_default(), queue.front().map(|waiter| waiter.came))
        };
        let (class, queue) = self.waiting.iter().min_by_key(order)?;
        queue.front().map(|waiter| (*class, waiter.memory))
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
        state.give_back(self.claim);
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
        let came: Vec<u32> = [order.recv().await, order.recv().await, order.recv().await, order.recv().await]
            .map(Option::unwrap)
            .to_vec();
        assert_eq!(came, [3, 0, 1, 2], "a class that holds none, then in the order in which they came");
    }

    #[tokio::test]
    async fn memory_is_shared_out_and_nobody_is_overtaken() {
        let places = places(16, 100 * MIB);
        let first = places.take(claim(1, 60 * MIB)).await;
        let mut large = Box::pin(places.take(claim(2, 200 * MIB)));
        assert!(futures::poll!(&mut large).is_pending(), "more than there is: alone");
        let mut small = Box::pin(places.take(claim(3, MIB)));
        assert!(futures::poll!(&mut small).is_pending(), "it would fit, and it is not its turn");
        drop(first);
        let large = large.await;
        assert!(futures::poll!(&mut small).is_pending());
        drop(large);
        drop(small.await);
        assert!(places.lock().held.is_empty() && places.lock().memory == 0 && places.lock().taken == 0);
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
