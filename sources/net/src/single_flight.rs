//! Single flight (request coalescing): concurrent callers with the same key share one run of the
//! work.
//!
//! The first caller starts the work, and later callers wait for the same result. The work runs in
//! its own task, so it continues when the first caller is cancelled. The result is removed when the
//! work ends: this is not a cache. The name comes from the Go package `singleflight`.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tracing::Instrument;

type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;
type Flights<K, V> = Arc<Mutex<HashMap<K, Flight<V>>>>;

/// The work that is running now, by key.
pub struct SingleFlight<K, V> {
    flights: Flights<K, V>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self {
            flights: Arc::default(),
        }
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").finish_non_exhaustive()
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits for the work that runs for `key`. If none runs, starts `work`. Returns `None` if the
    /// work panicked.
    ///
    /// The work starts in this call, not when the returned future is polled. So the returned future
    /// is small: it does not contain the work.
    pub fn join<F, W>(&self, key: K, work: W) -> impl Future<Output = Option<V>> + use<F, W, K, V>
    where
        W: FnOnce() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let flight = self.start(key.clone(), work());
        flights.insert(key, flight.clone());
        flight
    }

    fn start(&self, key: K, work: impl Future<Output = V> + Send + 'static) -> Flight<V> {
        let task = tokio::spawn(work.in_current_span());
        let guard = FlightGuard {
            flights: Arc::clone(&self.flights),
            key,
        };
        let flight = async move {
            let _guard = guard;
            task.await.ok()
        };
        let flight = flight.boxed().shared();
        // This task polls the flight to its end. Without this task, the flight would stay in the
        // map if all callers were cancelled.
        tokio::spawn(flight.clone());
        flight
    }
}

/// Removes a flight from the map when its work has ended.
struct FlightGuard<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for FlightGuard<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_callers_share_one_flight() {
        let flights: Arc<SingleFlight<&str, usize>> = Arc::default();
        let started = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let flights = Arc::clone(&flights);
                let started = Arc::clone(&started);
                let mut gate = gate.clone();
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
            "the result is removed when the work ends"
        );
    }

    #[tokio::test]
    async fn the_work_continues_when_its_first_caller_is_cancelled() {
        let flights: Arc<SingleFlight<u8, u8>> = Arc::default();
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
    async fn a_panic_ends_one_flight_only() {
        let flights: SingleFlight<u8, u8> = SingleFlight::default();
        assert_eq!(
            flights.join(1, || async { panic!("on purpose") }).await,
            None
        );
        assert_eq!(flights.join(1, || async { 2 }).await, Some(2));
    }
}
