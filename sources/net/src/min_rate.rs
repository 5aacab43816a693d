//! The minimum rate at which a body must arrive.

use std::time::{Duration, Instant};

/// The rate is checked once per window.
const WINDOW: Duration = Duration::from_secs(30);
/// The fewest bytes of a window.
const MIN_BYTES: usize = 4 << 10;

/// Checks that a body arrives with at least 4 KiB in 30 s. A slower server would hold a slot for
/// ever.
#[derive(Debug)]
pub struct MinRate {
    window_start: Instant,
    bytes: usize,
}

/// The body arrived more slowly than the minimum rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes in {} s", elapsed.as_secs())]
pub struct TooSlow {
    /// The bytes that arrived in the window.
    pub bytes: usize,
    /// The length of the window.
    pub elapsed: Duration,
}

impl MinRate {
    /// Starts the first window.
    pub fn new(now: Instant) -> Self {
        Self {
            window_start: now,
            bytes: 0,
        }
    }

    /// Records `bytes` more. At the end of a window, checks the rate and starts the next window.
    pub fn received(&mut self, bytes: usize, now: Instant) -> Result<(), TooSlow> {
        self.bytes += bytes;
        let elapsed = now.duration_since(self.window_start);
        if elapsed < WINDOW {
            return Ok(());
        }
        if self.bytes < MIN_BYTES {
            return Err(TooSlow {
                bytes: self.bytes,
                elapsed,
            });
        }
        *self = Self::new(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_needs_the_minimum_number_of_bytes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dripping = MinRate::new(start);
        assert!((1..30).all(|second| dripping.received(1, at(second)).is_ok()));
        assert_eq!(
            dripping.received(1, at(30)),
            Err(TooSlow {
                bytes: 30,
                elapsed: WINDOW
            })
        );
        let mut slow = MinRate::new(start);
        assert!(
            (1..=600).all(|second| slow.received(200, at(second)).is_ok()),
            "slow, but above the minimum rate"
        );
        let mut stalled = MinRate::new(start);
        assert!(stalled.received(1 << 20, at(29)).is_ok() && stalled.received(1, at(31)).is_ok());
        assert!(stalled.received(1, at(60)).is_ok() && stalled.received(1, at(61)).is_err());
    }
}
