//! How slowly a body may come.

use std::time::{Duration, Instant};

/// Of so long a time, something must have come: less is a server that keeps others waiting.
const WINDOW: Duration = Duration::from_secs(30);
const LEAST: usize = 4 << 10;

/// Counts what arrives: 4 KiB in 30 s are the least.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    /// It begins.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
        }
    }

    /// Takes note of `bytes` more; what came in how long, where that was too little.
    pub fn arrived(&mut self, bytes: usize, now: Instant) -> Result<(), (usize, Duration)> {
        self.bytes += bytes;
        let passed = now.duration_since(self.since);
        if passed < WINDOW {
            return Ok(());
        }
        if self.bytes < LEAST {
            return Err((self.bytes, passed));
        }
        *self = Self::new(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_too_slow() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dripping = Pace::new(start);
        assert!((1..30).all(|second| dripping.arrived(1, at(second)).is_ok()));
        assert_eq!(dripping.arrived(1, at(30)), Err((30, WINDOW)));
        let mut slow = Pace::new(start);
        assert!(
            (1..=600).all(|second| slow.arrived(200, at(second)).is_ok()),
            "slow, and it comes"
        );
        let mut stalled = Pace::new(start);
        assert!(stalled.arrived(1 << 20, at(29)).is_ok() && stalled.arrived(1, at(31)).is_ok());
        assert!(stalled.arrived(1, at(60)).is_ok() && stalled.arrived(1, at(61)).is_err());
    }
}
