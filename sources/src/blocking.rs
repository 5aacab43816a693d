//! Blocking work on the threads for blocking work.

use crate::{Error, ErrorKind};

/// Runs `work` on a thread that may block. A panic of `work` is an error.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let span = tracing::Span::current();
    let work = move || span.in_scope(work);
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        let message = "a task for blocking work panicked; this is a defect of this program";
        Err(Error::new(ErrorKind::Store, message).caused_by(error))
    })
}
