//! Single flight (request coalescing): concurrent callers with the same key share one run of the
//! work.
//!
//! The first caller starts the work, and later callers wait for the same result. The work runs in
//! its own task, so it continues when the first caller is cancelled. When all callers are
//! cancelled, the work is cancelled too. The result is removed when the work ends: this is not a
//! cache. The name comes from the Go package `singleflight`.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::Instrument;

type Run<V> = BoxFuture<'static, Option<V>>;
type Flights<K, V> = Arc<Mutex<Running<K, V>>>;

/// The work that is running now, by key.
pub struct SingleFlight<K, V> {
    flights: Flights<K, V>,
}

struct Running<K, V> {
    /// Only the callers keep a flight alive: the map has weak references. A flight without callers
    /// cannot be joined.
    by_key: HashMap<K, Flight<V>>,
    /// The number of flights that were started.
    started: u64,
}

struct Flight<V> {
    number: u64,
    run: WeakShared<Run<V>>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        let running = Running {
            by_key: HashMap::new(),
            started: 0,
        };
        Self {
            flights: Arc::new(Mutex::new(running)),
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
    /// is small: it does not contain the work. The work is cancelled when the futures of all
    /// callers are dropped.
    pub fn join<F, W>(&self, key: K, work: W) -> impl Future<Output = Option<V>> + use<F, W, K, V>
    where
        W: FnOnce() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.flights.lock();
        let flight = running.by_key.get(&key);
        if let Some(run) = flight.and_then(|flight| flight.run.upgrade()) {
            return run;
        }
        running.started += 1;
        let number = running.started;
        let run = self.start(key.clone(), number, work());
        if let Some(weak) = run.downgrade() {
            running.by_key.insert(key, Flight { number, run: weak });
        }
        run
    }

    fn start(
        &self,
        key: K,
        number: u64,
        work: impl Future<Output = V> + Send + 'static,
    ) -> Shared<Run<V>> {
        let mut task = AbortOnDrop(tokio::spawn(work.in_current_span()));
        let guard = FlightGuard {
            flights: Arc::clone(&self.flights),
            key,
            number,
        };
        let run = async move {
            let _guard = guard;
            (&mut task.0).await.ok()
        };
        run.boxed().shared()
    }
}

/// Cancels the work when the last caller is dropped.
struct AbortOnDrop<V>(JoinHandle<V>);

impl<V> Drop for AbortOnDrop<V> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Removes a flight from the map when its work has ended or was cancelled.
struct FlightGuard<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V> Drop for FlightGuard<K, V> {
    fn drop(&mut self) {
        let mut running = self.flights.lock();
        // A later flight may have the same key.
        let own = running.by_key.get(&self.key);
        if own.is_some_and(|flight| flight.number == self.number) {
            running.by_key.remove(&self.key);
        }
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
        let flights: SingleFlight<u8, u8> = SingleFlight::default();
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let first = flights.join(1, || async move {
            gate.await.unwrap();
            9
        });
        let second = flights.join(1, || async { 0 });
        drop(first);
        open.send(()).unwrap();
        assert_eq!(second.await, Some(9));
    }

    #[tokio::test]
    async fn the_work_is_cancelled_when_all_callers_are_cancelled() {
        let flights: SingleFlight<u8, u8> = SingleFlight::default();
        let (working, mut cancelled) = tokio::sync::oneshot::channel::<()>();
        let work = || async move {
            let _working = working;
            std::future::pending().await
        };
        let first = flights.join(1, work);
        let second = flights.join(1, || async { 0 });
        drop(first);
        tokio::task::yield_now().await;
        assert!(
            cancelled
                .try_recv()
                .is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty)
        );
        drop(second);
        assert!(cancelled.await.is_err(), "the work is dropped");
        assert!(flights.flights.lock().by_key.is_empty());
        assert_eq!(flights.join(1, || async { 2 }).await, Some(2));
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
