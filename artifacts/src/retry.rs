//! Retries of requests that failed for a reason that may pass.
//!
//! All retries of this crate use one policy: exponential backoff, in which the wait doubles after
//! each attempt. The AWS SDK has a retry policy of its own below this one, for single requests.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use crate::Error;

/// Wait after the first attempt.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Attempts to transfer an artifact. Each attempt starts the transfer again.
const TRANSFER_ATTEMPTS: usize = 3;
/// Attempts of a single request within a transfer.
pub(crate) const REQUEST_ATTEMPTS: usize = 4;

/// The policy for an operation that is tried at most `attempts` times.
pub(crate) fn backoff(attempts: usize) -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_factor(2.0)
        .with_max_times(attempts - 1)
}

/// Repeats a transfer while its error is [retryable](Error::retryable). The message of the last
/// error names the number of attempts.
pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
    transfer: impl FnMut() -> F,
) -> Result<T, Error> {
    retry_with(backoff(TRANSFER_ATTEMPTS), transfer).await
}

async fn retry_with<T, F: Future<Output = Result<T, Error>>>(
    policy: ExponentialBuilder,
    transfer: impl FnMut() -> F,
) -> Result<T, Error> {
    let done = transfer
        .retry(policy)
        .when(Error::retryable)
        .notify(|error, delay| {
            let delay_milliseconds = delay.as_millis();
            tracing::warn!(%error, delay_milliseconds, "a transfer failed and is retried");
        })
        .await;
    done.map_err(|error| match error.retryable() {
        true => {
            let message = format!("{error}, after {TRANSFER_ATTEMPTS} attempts");
            error.with_message(message)
        }
        false => error,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use backon::BackoffBuilder;

    use super::*;
    use crate::ErrorKind;

    /// Fails with an error of this kind each time. Returns the number of attempts and the error.
    async fn attempts(kind: ErrorKind) -> (usize, Error) {
        let count = AtomicUsize::new(0);
        let policy = backoff(TRANSFER_ATTEMPTS).with_min_delay(Duration::from_millis(1));
        let done: Result<(), Error> = retry_with(policy, || async {
            count.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(kind, "the server failed").with_hint("wait"))
        })
        .await;
        (count.into_inner(), done.unwrap_err())
    }

    #[test]
    fn the_wait_doubles() {
        let waits: Vec<Duration> = backoff(4).build().collect();
        assert_eq!(waits, [500, 1000, 2000].map(Duration::from_millis));
    }

    #[tokio::test]
    async fn only_retryable_errors_are_retried() {
        let (count, error) = attempts(ErrorKind::Unavailable).await;
        assert_eq!(count, 3);
        assert_eq!(
            error.describe(),
            "the server failed, after 3 attempts: wait"
        );
        let (count, error) = attempts(ErrorKind::Forbidden).await;
        assert_eq!(count, 1);
        assert_eq!(error.to_string(), "the server failed");
    }
}
