//! The fallback from mirrors to the registry itself.
//!
//! The content of a mirror can differ from the content of its registry. If a mirror may have caused
//! an error, the work is repeated once without mirrors.

use std::future::Future;

use crate::source::Context;
use crate::source_table::AnySource;
use crate::{Error, ErrorKind, Reference};

/// Runs `work`, and once more without mirrors if the origin has mirrors and `is_mirrors_fault`
/// accepts the error.
pub(crate) async fn with_mirror_fallback<'a, T, F: Future<Output = Result<T, Error>>>(
    source: &dyn AnySource,
    origin: &Reference,
    context: &Context<'a>,
    is_mirrors_fault: impl Fn(&Error) -> bool,
    work: impl Fn(Context<'a>) -> F,
) -> Result<T, Error> {
    match work(*context).await {
        Err(error) if source.has_mirrors(origin) && is_mirrors_fault(&error) => {
            work(context.without_mirrors()).await
        }
        done => done,
    }
}

/// Whether the error may come from a mirror whose content differs from the registry. If so, writes
/// a warning to the log.
pub(crate) fn content_may_differ(error: &Error) -> bool {
    let may_differ = matches!(
        error.kind(),
        ErrorKind::DigestMismatch
            | ErrorKind::Protocol
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
    );
    if may_differ {
        tracing::warn!(
            %error,
            "the content of a mirror may differ from the registry; asking the registry itself"
        );
    }
    may_differ
}
