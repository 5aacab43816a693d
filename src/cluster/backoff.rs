//! The delay after a request that failed.

use std::time::Duration;

/// Longest delay.
pub(super) const LAST_DELAY: Duration = Duration::from_secs(30);

/// The delay after `failures` earlier failures: twice as long after each one, and at most
/// [`LAST_DELAY`].
pub(super) fn backoff(first: Duration, failures: u32) -> Duration {
    (first * 2_u32.saturating_pow(failures.min(10))).min(LAST_DELAY)
}
