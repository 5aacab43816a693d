//! Advances the engines' epochs, so that guests are interrupted, and sleeps while nothing runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::Engine;

/// How often a running guest is interrupted to look at its limits.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Idle ticks before the thread sleeps: a busy server never pays for waking it.
const LINGER: u32 = 100;

/// The ticking thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    over: AtomicBool,
}

/// The epoch advances while one of these lives.
#[derive(Debug)]
pub(super) struct Ticking<'a>(&'a Ticker);

impl Ticker {
    pub(super) fn start(engines: Vec<Engine>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handle = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("epoch".to_owned())
                .spawn(move || tick(&shared, &engines))?
        };
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// Ticks until the guard is dropped.
    pub(super) fn tick(&self) -> Ticking<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(self)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn tick(shared: &Shared, engines: &[Engine]) {
    let mut idle = 0;
    while !shared.over.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else if idle < LINGER {
            idle += 1;
        } else {
            // `asleep` is set before the last look, and `tick` looks at it after counting itself: one of the two sees the other.
            shared.asleep.store(true, Ordering::SeqCst);
            while shared.running.load(Ordering::SeqCst) == 0 && !shared.over.load(Ordering::SeqCst)
            {
                std::thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
        std::thread::sleep(TICK);
        for engine in engines {
            engine.increment_epoch();
        }
    }
}
