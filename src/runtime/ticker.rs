//! Increments the epoch of the engines every 10 ms, so that running guests are interrupted.
//!
//! The ticks are counted, too. When a host call returns, it compares two counts. This is much
//! cheaper than reading a clock (see `host_calls`).
//!
//! The work is done by one thread. The thread sleeps while no guest runs. It continues to tick for
//! a second after the last run, because a wake-up costs time at the start of a run. So a busy
//! server does not wake the thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::Engine;

/// Interval between two interruptions of a running guest.
const TICK: Duration = Duration::from_millis(10);
/// Number of ticks without a running guest after which the thread sleeps.
const IDLE_TICKS: u32 = 100;

/// The thread that ticks. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// Number of live [`TickGuard`]s.
    running: AtomicUsize,
    asleep: AtomicBool,
    shutdown: AtomicBool,
    ticks: AtomicU64,
}

/// Counts the ticks of a [`Ticker`]. The count stands still while no guest runs.
#[derive(Clone, Debug, Default)]
pub(super) struct TickCount(Arc<Shared>);

impl TickCount {
    pub(super) fn now(&self) -> u64 {
        self.0.ticks.load(Ordering::Relaxed)
    }

    /// Counts one tick, as the thread does.
    #[cfg(test)]
    pub(super) fn advance(&self) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

/// The epoch is incremented while at least one of these exists.
#[derive(Debug)]
pub(super) struct TickGuard<'a>(&'a Ticker);

impl Ticker {
    pub(super) fn start(engines: Vec<Engine>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handle = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("epoch".to_owned())
                .spawn(move || increment_epochs(&shared, &engines))?
        };
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
        })
    }

    pub(super) fn count(&self) -> TickCount {
        TickCount(Arc::clone(&self.shared))
    }

    /// Ticks until the guard is dropped.
    pub(super) fn tick(&self) -> TickGuard<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        TickGuard(self)
    }
}

impl Drop for TickGuard<'_> {
    fn drop(&mut self) {
        self.0.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn increment_epochs(shared: &Shared, engines: &[Engine]) {
    let mut idle_ticks = 0;
    while !shared.shutdown.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle_ticks = 0;
        } else if idle_ticks < IDLE_TICKS {
            idle_ticks += 1;
        } else {
            sleep_until_needed(shared);
            idle_ticks = 0;
        }
        std::thread::sleep(TICK);
        for engine in engines {
            engine.increment_epoch();
        }
        shared.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

/// Parks the thread until a guest runs or the ticker is dropped.
///
/// No wake-up is lost. This function stores `asleep` and then loads `running`. [`Ticker::tick`]
/// stores `running` and then loads `asleep`. So at least one of the two sees the store of the
/// other.
fn sleep_until_needed(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    while shared.running.load(Ordering::SeqCst) == 0 && !shared.shutdown.load(Ordering::SeqCst) {
        std::thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}
