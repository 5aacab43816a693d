//! Limits how many requests or workers run at the same time. A namespace whose servers do not
//! answer must not stop the tasks of other namespaces.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places that all namespaces share.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// Places that one namespace can have.
    each: usize,
    of_namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place. It is free again when the value is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: Option<OwnedSemaphorePermit>,
    _of_namespace: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// This number of places, of which one namespace can have `each`.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            each,
            of_namespaces: Mutex::default(),
        }
    }

    /// Waits for a place of the namespace, and then for one of all places.
    pub(super) async fn take(&self, namespace: &str) -> Place {
        let of_namespace = {
            let mut known = self.of_namespaces.lock();
            // A namespace without places in use needs no entry.
            known.retain(|_, places| {
                Arc::strong_count(places) > 1 || places.available_permits() < self.each
            });
            let places = known.entry(namespace.to_owned());
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
        };
        // The semaphores are never closed, so there is always a permit.
        Place {
            _of_namespace: of_namespace.acquire_owned().await.ok(),
            _of_all: Arc::clone(&self.all).acquire_owned().await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_namespace_without_places_does_not_stop_another_one() {
        let places = Places::new(8, 2);
        let mut held = vec![places.take("a").await, places.take("a").await];
        assert!(places.take("a").now_or_never().is_none());
        assert!(places.take("b").now_or_never().is_some());
        held.pop();
        assert!(places.take("a").now_or_never().is_some());
        drop(held);
        drop(places.take("c").await);
        assert_eq!(places.of_namespaces.lock().len(), 1, "only `c`");
    }
}
