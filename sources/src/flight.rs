//! Single flight: many ask for the same thing at once, one does the work, all get the result.
//!
//! The work runs in a task of its own, so that one caller going away does not take it from the others. Nothing is kept
//! once it is done: what should last is the caller's cache.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

/// The flights now in the air, by key.
pub struct Flights<K, V> {
    flying: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            flying: Arc::default(),
        }
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the flight for `key`, or starts one with `work`. `None` when the work panicked.
    pub async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = {
            let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(flight) = flying.get(&key) {
                flight.clone()
            } else {
                let task = tokio::spawn(work());
                let landed = Landed {
                    flying: Arc::clone(&self.flying),
                    key: key.clone(),
                };
                let flight = async move {
                    let _landed = landed;
                    task.await.ok()
                }
                .boxed()
                .shared();
                flying.insert(key, flight.clone());
                // Somebody must poll it to the end, or a flight whose callers all left would stay in the map.
                tokio::spawn(flight.clone());
                flight
            }
        };
        flight.await
    }
}

/// Takes the flight off the map when it is over.
struct Landed<K: Eq + Hash, V> {
    flying: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landed<K, V> {
    fn drop(&mut self) {
        self.flying
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn fifty_callers_make_one_flight() {
        let flights: Arc<Flights<&str, usize>> = Arc::default();
        let started = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let (flights, started, mut gate) =
                    (Arc::clone(&flights), Arc::clone(&started), gate.clone());
                tokio::spawn(async move {
                    flights
                        .join("key", || async move {
                            gate.wait_for(|open| *open).await.unwrap();
                            started.fetch_add(1, Ordering::SeqCst) + 1
                        })
                        .await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        open.send(true).unwrap();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Some(1));
        }
        assert_eq!(
            flights.join("key", || async { 7 }).await,
            Some(7),
            "nothing is kept"
        );
    }

    #[tokio::test]
    async fn the_first_caller_may_leave() {
        let flights: Arc<Flights<u8, u8>> = Arc::default();
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let first = {
            let flights = Arc::clone(&flights);
            tokio::spawn(async move {
                flights
                    .join(1, || async move {
                        gate.await.unwrap();
                        9
                    })
                    .await
            })
        };
        tokio::task::yield_now().await;
        first.abort();
        let _ = first.await;
        open.send(()).unwrap();
        assert_eq!(flights.join(1, || async { 0 }).await, Some(9));
    }

    #[tokio::test]
    async fn a_panic_reaches_nobody() {
        let flights: Flights<u8, u8> = Flights::default();
        assert_eq!(
            flights.join(1, || async { panic!("on purpose") }).await,
            None
        );
        assert_eq!(flights.join(1, || async { 2 }).await, Some(2));
    }
}
