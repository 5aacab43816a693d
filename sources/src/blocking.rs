//! Blocking work on the threads for blocking work.

use crate::{Error, ErrorKind};

/// Runs `work` on a thread that may block. A panic of `work` is an error.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Store, "writing to the store broke off").caused_by(error))
    })
}
