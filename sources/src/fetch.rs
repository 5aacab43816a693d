//! Downloads: from the result of resolving to a module.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use crate::blocking::blocking;
use crate::credentials::Keyring;
use crate::inner::Inner;
use crate::receive::too_large;
use crate::source::Context;
use crate::source_table::AnySource;
use crate::{Error, ErrorKind, FetchedModule, Part, Reference, Requester, Resolved};

/// The number of times that a broken download is started again.
const RETRIES: usize = 2;
const FIRST_DELAY: Duration = Duration::from_millis(400);

impl Inner {
    pub(crate) async fn fetch(
        &self,
        resolved: &Resolved,
        requester: &Requester,
    ) -> Result<FetchedModule, Error> {
        let source = self.sources.get(&resolved.origin)?;
        let sizes = || resolved.parts.iter().filter_map(|part| part.size);
        let largest = sizes().max().unwrap_or(0);
        let all = sizes().fold(0, u64::saturating_add);
        if largest > self.max_module_bytes {
            return Err(too_large(largest, self.max_module_bytes));
        }
        if all > self.max_module_bytes.saturating_mul(4) {
            return Err(too_large(all, self.max_module_bytes));
        }
        let module = if let Some(ephemeral) = &resolved.ephemeral {
            self.unpack_ephemeral(ephemeral, resolved).await?
        } else if self.sources.is_local(&resolved.origin) {
            self.unpack_local(source, resolved).await?
        } else {
            let keyrings = self.keyrings(&resolved.origin, requester).await?;
            self.download_missing(source, resolved, &keyrings).await?;
            let mut module = self.unpack_stored(resolved).await?;
            if module.is_none() {
                // The disk lost or changed some of it: once more.
                self.download_missing(source, resolved, &keyrings).await?;
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
        self.packages
            .insert(resolved.package_key(), Arc::clone(&module.package))
            .await;
        Ok(module)
    }

    async fn download_missing(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
        keyrings: &[Keyring],
    ) -> Result<(), Error> {
        for part in &resolved.parts {
            let store = self.store.clone();
            let digest = part.digest.clone();
            if blocking(move || Ok(store.contains(&digest))).await? {
                continue;
            }
            let context = self.context(keyrings);
            let mut done = retry(|| self.download(source, resolved, part, &context)).await;
            if is_mirrors_fault(source, &resolved.origin, &done) {
                let direct = context.without_mirrors();
                done = retry(|| self.download(source, resolved, part, &direct)).await;
            }
            done?;
        }
        Ok(())
    }

    /// Downloads one part into the store. The HTTP client already retried a failed request; this program
    /// retries a body that broke off.
    async fn download(
        &self,
        source: &dyn AnySource,
        resolved: &Resolved,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let _permit = self.downloads.acquire(&resolved.origin.server()).await?;
        let body = source
            .open_unverified(&resolved.origin, part, context)
            .await
            .map_err(Error::already_retried)?;
        let store = self.store.clone();
        let digest = part.digest.clone();
        let writer = blocking(move || store.writer(Some(&digest))).await?;
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

/// Whether the error may be the fault of a mirror: a mirror may have other content than its registry.
pub(crate) fn is_mirrors_fault<T>(
    source: &dyn AnySource,
    origin: &Reference,
    done: &Result<T, Error>,
) -> bool {
    let Err(error) = done else { return false };
    let may_differ = matches!(
        error.kind(),
        ErrorKind::DigestMismatch
            | ErrorKind::Protocol
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
    );
    let fault = may_differ && source.has_mirrors(origin);
    if fault {
        tracing::warn!(%error, "a mirror may have other content; asking the registry itself");
    }
    fault
}

/// Repeats `work` while its error may pass: a connection that broke off.
pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
    work: impl FnMut() -> F,
) -> Result<T, Error> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_times(RETRIES);
    work.retry(backoff)
        .when(Error::retryable_now)
        .notify(|error, delay| {
            tracing::warn!(%error, ?delay, "download failed, trying again");
        })
        .await
}
