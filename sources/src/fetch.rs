//! Fetching: from the result of resolving to the bytes of a module.
//!
//! The store is content-addressed: a part whose digest is in the store is not downloaded, if the
//! namespace of the requester has downloaded it before (`store/grants.rs`). The other parts are
//! downloaded, hashed and stored, and then the module is unpacked. The store verifies the digest
//! again when it opens a part. If a part was lost or changed on disk, the part is downloaded once
//! more.
//!
//! An interrupted download is retried with exponential backoff. If the content of a mirror has
//! the wrong digest, the part is downloaded from the registry itself.
//!
//! [`Sources`](crate::Sources) runs a fetch as a single flight: equal requests share one download.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use crate::blocking::blocking;
use crate::credentials::Keyring;
use crate::inner::Inner;
use crate::mirror_fallback::{content_may_differ, with_mirror_fallback};
use crate::receive::too_large;
use crate::source::Context;
use crate::source_table::AnySource;
use crate::{Error, ErrorKind, FetchedModule, Part, Requester, Resolved};

/// The number of retries after the first attempt.
const RETRIES: usize = 2;
/// The delay before the first retry. Each further delay is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(400);

impl Inner {
    /// The module of a resolved reference, from the store or from the origin.
    pub(crate) async fn fetch(
        &self,
        resolved: &Resolved,
        requester: &Requester,
    ) -> Result<FetchedModule, Error> {
        let source = self.sources.get(&resolved.origin)?;
        let sizes = || resolved.parts.iter().filter_map(|part| part.size);
        let largest = sizes().max().unwrap_or(0);
        let all = sizes().fold(0, u64::saturating_add);
        if largest > self.max_module_size {
            return Err(too_large(largest, self.max_module_size));
        }
        if all > self.max_module_size.saturating_mul(4) {
            return Err(too_large(all, self.max_module_size));
        }
        let module = if let Some(ephemeral) = &resolved.ephemeral {
            self.unpack_ephemeral(ephemeral, resolved).await?
        } else if self.sources.is_local(&resolved.origin) {
            self.unpack_local(source, resolved).await?
        } else {
            let keyrings = self.keyrings(&resolved.origin, requester).await?;
            self.download_missing(source, resolved, requester, &keyrings)
                .await?;
            let mut module = self.unpack_stored(resolved).await?;
            if module.is_none() {
                // A part was lost or changed on disk. The download is repeated once.
                self.download_missing(source, resolved, requester, &keyrings)
                    .await?;
                module = self.unpack_stored(resolved).await?;
            }
            let module = module.ok_or_else(|| {
                Error::new(
                    ErrorKind::Store,
                    "disappeared from the store after it was written",
                )
            })?;
            self.remember(resolved, requester).await;
            module
        };
        resolved.granted.set();
        self.packages
            .insert(resolved.package_key(), Arc::clone(&module.package))
            .await;
        Ok(module)
    }

    /// Downloads the parts that are not in the store, or that the requester's namespace has not
    /// downloaded yet.
    async fn download_missing(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
        requester: &Requester,
        keyrings: &[Keyring],
    ) -> Result<(), Error> {
        for part in &resolved.parts {
            let store = self.store.clone();
            let digest = part.digest.clone();
            let namespace = requester.namespace.clone();
            if blocking(move || Ok(store.offers(&digest, &namespace))).await? {
                continue;
            }
            let context = self.context(keyrings);
            let download = |context| async move {
                let namespace = &requester.namespace;
                retry(|| self.download(source, resolved, part, namespace, &context)).await
            };
            let origin = &resolved.origin;
            with_mirror_fallback(source, origin, &context, content_may_differ, download).await?;
        }
        Ok(())
    }

    /// Downloads one part into the store. An error before the body is not retried again: the HTTP
    /// client already retried the request. An interrupted body is retried.
    async fn download(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
        part: &Part,
        namespace: &str,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let _permit = self.downloads.acquire(&resolved.origin.server()).await?;
        let body = source
            .open_unverified(&resolved.origin, part, context)
            .await
            .map_err(Error::already_retried)?;
        let store = self.store.clone();
        let digest = part.digest.clone();
        let namespace = namespace.to_owned();
        let writer = blocking(move || store.writer(Some(&digest), &namespace)).await?;
        let writer = self.receive(body, writer, part.size).await?;
        if let Some(size) = part.size.filter(|size| *size != writer.written()) {
            let written = writer.written();
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("only {written} of {size} bytes arrived"),
            ));
        }
        blocking(move || writer.commit().map(drop)).await
    }
}

/// Retries `work` with exponential backoff, while its error may pass.
pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
    work: impl FnMut() -> F,
) -> Result<T, Error> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_times(RETRIES);
    work.retry(backoff)
        .when(Error::retryable_now)
        .notify(|error, delay| {
            let delay_milliseconds = delay.as_millis();
            tracing::warn!(%error, delay_milliseconds, "the attempt failed and is retried");
        })
        .await
}
