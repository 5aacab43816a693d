//! Calls that wait for their executions longer than a short time.
//!
//! Each waiting call blocks one of the agent's workers, so the number of long waits is limited. If
//! all places are taken, a new call takes the place of the call that has waited longest. The step
//! of that call is probably long. So a short step is answered with its result, also beside many
//! long steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The places for long waits. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LongWaits {
    places: Arc<Mutex<Places>>,
    /// Number of places.
    most: usize,
}

#[derive(Debug, Default)]
struct Places {
    /// Number of places that were taken until now.
    taken: u64,
    /// The places that are in use, the oldest first. Dropping the sender takes the place away.
    in_use: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The right to wait for a long time.
#[derive(Debug)]
pub(super) struct Place {
    waits: LongWaits,
    number: u64,
    taken_away: oneshot::Receiver<()>,
}

impl LongWaits {
    pub(super) fn new(most: usize) -> Self {
        Self {
            places: Arc::default(),
            most,
        }
    }

    /// Takes a place, if one is free.
    pub(super) fn try_take(&self) -> Option<Place> {
        let mut places = self.places.lock();
        (places.in_use.len() < self.most).then(|| places.take(self))
    }

    /// Takes a place. If none is free, it is the place of the call that has waited longest.
    pub(super) fn take(&self) -> Place {
        let mut places = self.places.lock();
        if places.in_use.len() >= self.most {
            places.in_use.pop_first();
        }
        places.take(self)
    }
}

impl Places {
    fn take(&mut self, waits: &LongWaits) -> Place {
        let (sender, taken_away) = oneshot::channel();
        self.taken += 1;
        self.in_use.insert(self.taken, sender);
        Place {
            waits: waits.clone(),
            number: self.taken,
            taken_away,
        }
    }
}

impl Place {
    /// Waits until another call takes the place away.
    pub(super) async fn taken_away(&mut self) {
        let _ = (&mut self.taken_away).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waits.places.lock().in_use.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_new_call_takes_the_place_of_the_call_that_has_waited_longest() {
        let waits = LongWaits::new(2);
        let mut first = waits.try_take().unwrap();
        let mut second = waits.try_take().unwrap();
        assert!(waits.try_take().is_none());
        let mut third = waits.take();
        assert!(first.taken_away().now_or_never().is_some());
        assert!(second.taken_away().now_or_never().is_none());
        drop(first);
        assert!(waits.try_take().is_none(), "the place is not free twice");
        drop(second);
        assert!(third.taken_away().now_or_never().is_none());
        assert!(waits.try_take().is_some());
    }
}
