//! The log of calls that were refused because of their token.
//!
//! A log line never contains the token. A flood of wrong tokens must not flood the log: after a
//! line, the calls of the next ten seconds are counted, and share one line.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Time in which refused calls are only counted.
const INTERVAL: Duration = Duration::from_secs(10);

/// Logs refused calls. Clones share one count.
#[derive(Clone, Debug, Default)]
pub struct RefusedCalls(Arc<Mutex<Option<Counted>>>);

/// The refused calls since the last line. `None` if the next call gets a line of its own.
#[derive(Debug, Default)]
struct Counted {
    calls: u64,
}

impl RefusedCalls {
    /// Logs or counts a refused call. Call this on a tokio runtime.
    pub(super) fn log(&self) {
        if !self.begin() {
            return;
        }
        tracing::warn!(
            calls = 1,
            "a call was refused: its token is missing or wrong"
        );
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(INTERVAL).await;
            let calls = this.end();
            if calls > 0 {
                tracing::warn!(
                    calls,
                    interval_seconds = INTERVAL.as_secs(),
                    "more calls were refused: their tokens are missing or wrong"
                );
            }
        });
    }

    /// Whether this call begins an interval. Any other call is counted.
    fn begin(&self) -> bool {
        let mut counted = self.0.lock();
        if let Some(counted) = &mut *counted {
            counted.calls += 1;
            return false;
        }
        *counted = Some(Counted::default());
        true
    }

    /// Ends the interval. Returns the number of calls that were counted.
    fn end(&self) -> u64 {
        self.0.lock().take().map_or(0, |counted| counted.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refused_calls_gives_two_lines_in_an_interval() {
        let refused = RefusedCalls::default();
        assert!(refused.begin());
        for _ in 0..1000 {
            assert!(!refused.begin());
        }
        assert_eq!(refused.end(), 1000);
        assert!(refused.begin(), "the next call gets a line again");
        assert_eq!(refused.end(), 0);
    }
}
