//! Transfers that the network broke begin again.

use std::time::Duration;

use crate::Error;

/// A transfer that the network broke begins again.
const ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(500);

pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
    mut work: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        match work().await {
            Err(error) if error.retryable() && attempt < ATTEMPTS => {
                tracing::warn!(%error, attempt, "a transfer failed, trying again");
                tokio::time::sleep(FIRST_WAIT * 2u32.pow(attempt - 1)).await;
                attempt += 1;
            }
            Err(error) if error.retryable() => {
                let message = format!("{error}, after {attempt} attempts");
                return Err(Error::new(error.kind(), message).caused_by(error));
            }
            done => return done,
        }
    }
}
