//! Resolving: from a reference to the digests of the content that the reference names now.
//!
//! The steps:
//!
//! 1. The operator's policy is checked against the reference.
//! 2. The pull policy decides whether the stored result is used or a request is sent. Without an
//!    explicit pull policy, a stored result that is fresh by `Cache-Control` is used (RFC 9111).
//! 3. A locator translates a package name into the reference that has the content (the origin).
//! 4. The source asks the origin. With a stored result, the source can validate the cache: it sends
//!    the `ETag`, and the server answers 304 if the content has not changed.
//! 5. Signatures are verified, unless the stored result was verified against the same rules.
//!
//! [`Sources`](crate::Sources) runs these steps as a single flight: requests that are equal share
//! one task. Failures that may pass are retried with exponential backoff (`fetch.rs`).

use std::time::{Duration, SystemTime};

use crate::inner::{Inner, in_time};
use crate::mirror_fallback::{content_may_differ, with_mirror_fallback};
use crate::source::{Context, Resolution};
use crate::source_table::AnySource;
use crate::{Error, ErrorKind, PullPolicy, Reference, Request, Requester, Resolved, fetch};

/// The longest time of one attempt to resolve a reference.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(2);

/// The answer of the store to a request.
enum Stored {
    /// The stored result answers the request.
    Current(Box<Resolved>),
    /// The origin must be asked. With the stored result, the source can validate the cache.
    Stale(Option<Box<Resolved>>),
}

impl Inner {
    /// Resolves the request, as the header of this file describes.
    pub(crate) async fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        let reference = &request.reference;
        let namespace = &request.requester.namespace;
        self.check(reference, namespace)?;
        let stored = match self.find_stored(request).await? {
            Stored::Current(resolved) => {
                tracing::debug!(
                    reference = %reference.redacted(),
                    artifact = %resolved.artifact,
                    "resolved from the store"
                );
                self.check(&resolved.origin, namespace)?;
                return Ok(*resolved);
            }
            Stored::Stale(stored) => stored,
        };
        let keyrings = self.keyrings(reference, &request.requester).await?;
        let context = self.context(&keyrings);
        let origin = self.locate(reference, namespace, &context).await?;
        let source = self.sources.get(&origin)?;
        self.signatures.check_origin(reference, &origin, source)?;
        let resolved = self
            .ask_origin(
                source,
                &origin,
                stored.as_deref(),
                &request.requester,
                &context,
            )
            .await?;
        let resolved = Resolved {
            reference: reference.clone(),
            ..resolved
        };
        // The origin can name a version that the reference does not name.
        self.check(&resolved.origin, namespace)?;
        let resolved = self.verify_signatures(source, resolved, &context).await?;
        tracing::info!(
            reference = %reference.redacted(),
            artifact = %resolved.artifact,
            "resolved"
        );
        self.remember_stored(&resolved, request).await;
        Ok(resolved)
    }

    /// Checks the operator's rules for the reference, and for the server that has the content.
    fn check(&self, reference: &Reference, namespace: &str) -> Result<(), Error> {
        self.rules.check(reference, namespace)?;
        // A locator's reference has no source: the origin is checked.
        let source = self.sources.get(reference).ok();
        match source.and_then(|source| source.server(reference)) {
            Some(server) => self.rules.check_server(&server, namespace),
            None => Ok(()),
        }
    }

    /// Looks for the reference in the store.
    ///
    /// # Errors
    ///
    /// The pull policy is `Never`, and the store cannot answer.
    async fn find_stored(&self, request: &Request) -> Result<Stored, Error> {
        let reference = &request.reference;
        if self.sources.is_local(reference) {
            return Ok(Stored::Stale(None));
        }
        let policy = request
            .pull_policy
            .unwrap_or_else(|| reference.default_pull_policy());
        let stored = self.stored(reference, &request.requester).await;
        let unverified = stored
            .as_ref()
            .is_some_and(|resolved| !self.is_verified(resolved));
        let stored = stored.filter(|_| !unverified);
        if let Some(resolved) = &stored
            && (policy != PullPolicy::Always || is_fresh(resolved, request))
        {
            return Ok(Stored::Current(Box::new(resolved.clone())));
        }
        if policy != PullPolicy::Never {
            return Ok(Stored::Stale(stored.map(Box::new)));
        }
        let message = match unverified {
            true => {
                "the module is in the store without a verified signature, and the pull policy \
                 `Never` forbids the request that would verify the signature"
            }
            false => "the module is not in the store, and the pull policy is `Never`",
        };
        Err(Error::new(ErrorKind::NotStored, message)
            .with_hint("pull it first, or use the pull policy `IfNotPresent`"))
    }

    /// Whether the signatures were verified against the current rules.
    fn is_verified(&self, resolved: &Resolved) -> bool {
        let source = self.sources.get(&resolved.origin);
        source.is_ok_and(|source| self.signatures.is_verified(resolved, source))
    }

    /// The origin: the reference that names the content. The origin is `reference` itself, unless
    /// a locator translates `reference`.
    async fn locate(
        &self,
        reference: &Reference,
        namespace: &str,
        context: &Context<'_>,
    ) -> Result<Reference, Error> {
        let Some(locator) = self.sources.get_locator(reference) else {
            return Ok(reference.clone());
        };
        let origin = locator.locate(reference, context).await?;
        self.check(&origin, namespace)?;
        Ok(origin)
    }

    /// Asks the origin. Asks again without mirrors if a mirror may have caused the error.
    async fn ask_origin(
        &self,
        source: &dyn AnySource,
        origin: &Reference,
        stored: Option<&Resolved>,
        requester: &Requester,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        let resolve = |context| async move {
            self.resolve_at(source, origin, stored, requester, &context)
                .await
        };
        let resolved =
            with_mirror_fallback(source, origin, context, content_may_differ, resolve).await;
        resolved.map_err(|error| match (stored, error.kind()) {
            (Some(_), ErrorKind::Unavailable) => error.with_hint(
                "an earlier copy is in the store; use the pull policy `IfNotPresent` to run it \
                 without contacting the origin",
            ),
            _ => error,
        })
    }

    /// Asks the source, with retries. Content that arrives with the answer is written to the store.
    async fn resolve_at(
        &self,
        source: &dyn AnySource,
        origin: &Reference,
        stored: Option<&Resolved>,
        requester: &Requester,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        let _permit = match source.may_stream_on_resolve(origin) {
            true => Some(self.downloads.acquire(&origin.server()).await?),
            false => None,
        };
        let attempt = || async {
            let resolving = in_time(RESOLVE_TIMEOUT, source.resolve(origin, stored, context));
            // The HTTP client already retried a failed request.
            match resolving.await.map_err(Error::already_retried)? {
                Resolution::Exact(resolved) => Ok(*resolved),
                Resolution::Streamed(streamed) => {
                    let namespace = &requester.namespace;
                    self.store_body(origin, *streamed, namespace).await
                }
            }
        };
        fetch::retry(attempt).await
    }

    /// Verifies the signatures, unless the stored result was verified against the same rules.
    async fn verify_signatures(
        &self,
        source: &dyn AnySource,
        resolved: Resolved,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        if self.signatures.is_verified(&resolved, source) {
            return Ok(resolved);
        }
        let artifact = &resolved;
        let verify =
            |context| async move { self.signatures.verify(artifact, source, &context).await };
        // A mirror may have an artifact without its signatures.
        let is_mirrors_fault =
            |error: &Error| error.kind() == ErrorKind::Denied || content_may_differ(error);
        let origin = &resolved.origin;
        let signed =
            with_mirror_fallback(source, origin, context, is_mirrors_fault, verify).await?;
        Ok(Resolved { signed, ..resolved })
    }

    /// Remembers the result if the content needs no download: the content is already in the store,
    /// or must not be stored.
    async fn remember_stored(&self, resolved: &Resolved, request: &Request) {
        if self.sources.is_local(&resolved.reference) {
            return;
        }
        if resolved.caching.no_store || self.offers_all(resolved, &request.requester).await {
            resolved.granted.set();
            self.remember(resolved, &request.requester).await;
        }
    }
}

/// Whether the stored result is still fresh by the server's `Cache-Control`. With an explicit pull
/// policy, or with a Secret in the template, the server is always asked.
fn is_fresh(resolved: &Resolved, request: &Request) -> bool {
    request.pull_policy.is_none()
        && request.requester.secrets.is_empty()
        && resolved.caching.is_fresh(SystemTime::now())
}
