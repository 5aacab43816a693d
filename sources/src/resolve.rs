//! From a reference to the content that it names now.

use std::time::{Duration, SystemTime};

use crate::inner::{Inner, in_time, is_local};
use crate::source::{Context, Resolution};
use crate::{Error, ErrorKind, PullPolicy, Reference, Request, Resolved, Source, fetch, wasmer};

const RESOLVE_TIMEOUT: Duration = Duration::from_mins(2);

/// Whether its server promised that it is the same today. Who says `Always`, or shows a Secret of their own, has it asked all the same.
fn is_fresh(resolved: &Resolved, request: &Request) -> bool {
    request.pull_policy.is_none()
        && request.requester.secrets.is_empty()
        && resolved.caching.is_fresh(SystemTime::now())
}

impl Inner {
    /// The reference without the name of a registry or server, where it has one that is the operator's own: rules hold however it is written.
    pub(crate) fn short(&self, reference: &Reference) -> Option<Reference> {
        match reference {
            Reference::Wasmer(package)
                if package.registry().is_some_and(|registry| {
                    wasmer::is_same(registry, self.endpoints.0.as_ref())
                }) =>
            {
                Some(Reference::Wasmer(package.clone().in_default_registry()))
            }
            Reference::Bindle(bindle)
                if bindle.server().is_some() && bindle.server() == self.endpoints.1.as_ref() =>
            {
                Some(Reference::Bindle(bindle.clone().on_default_server()))
            }
            _ => None,
        }
    }

    pub(crate) async fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        let reference = &request.reference;
        self.policy.check(reference)?;
        let policy = request
            .pull_policy
            .unwrap_or_else(|| PullPolicy::default_for(reference));
        let local = is_local(reference);
        let stored = if local {
            None
        } else {
            self.stored(reference, &request.requester).await
        };
        let unchecked = stored
            .as_ref()
            .is_some_and(|resolved| !self.signatures.held(resolved));
        let stored = match stored.filter(|_| !unchecked) {
            Some(resolved) if policy != PullPolicy::Always || is_fresh(&resolved, request) => {
                tracing::debug!(reference = %reference.redacted(), artifact = %resolved.artifact, "resolved from the store");
                self.policy.check(&resolved.origin)?;
                return Ok(resolved);
            }
            stored => stored,
        };
        if policy == PullPolicy::Never && !local {
            let message = match unchecked {
                true => {
                    "is in the store, and nobody has checked its signature yet: the pull policy `Never` does not let that be asked for"
                }
                false => "is not in the store, and the pull policy is `Never`",
            };
            let error = Error::new(ErrorKind::NotStored, message);
            return Err(error.hint("pull it first, or use the pull policy `IfNotPresent`"));
        }
        let keyrings = self.keyrings(reference, &request.requester).await?;
        let context = self.context(&keyrings);
        let origin = match reference {
            Reference::Wkg(package) => {
                let origin = self.wkg.locate(package, &self.oci, &context).await?;
                self.policy.check(&origin)?;
                origin
            }
            itself => itself.clone(),
        };
        self.signatures.check_origin(reference, &origin)?;
        let source = self.source(&origin)?;
        let mut resolved = self
            .resolve_at(source, &origin, stored.as_ref(), &context)
            .await;
        if self.is_mirrors_fault(&resolved, &origin) {
            resolved = self
                .resolve_at(source, &origin, stored.as_ref(), &context.without_mirrors())
                .await;
        }
        let resolved = resolved.map_err(|error| match (&stored, error.kind()) {
            (Some(_), ErrorKind::Unavailable) => error.hint(
                "what it was is in the store: with the pull policy `IfNotPresent` that runs, and nobody is asked",
            ),
            _ => error,
        })?;
        let resolved = Resolved {
            reference: reference.clone(),
            ..resolved
        };
        // A name without a version led to one.
        self.policy.check(&resolved.origin)?;
        let resolved = self.check_signatures(resolved, &context).await?;
        tracing::info!(reference = %reference.redacted(), artifact = %resolved.artifact, "resolved");
        // The content may be here under another reference, and then nobody fetches it.
        if !local && (resolved.caching.no_store || self.holds(&resolved).await) {
            self.remember(&resolved, &request.requester).await;
        }
        Ok(resolved)
    }

    async fn resolve_at(
        &self,
        source: &dyn Source,
        origin: &Reference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        // The content may come at once.
        let may_arrive = origin.pinned().is_none()
            && matches!(origin, Reference::Http(_) | Reference::Wasmer(_));
        let _permit = if may_arrive {
            Some(self.downloads.acquire(&origin.server()).await?)
        } else {
            None
        };
        let attempt = || async {
            let resolving = in_time(RESOLVE_TIMEOUT, source.resolve(origin, stored, context));
            // The HTTP client already retried a failed request.
            match resolving.await.map_err(Error::already_retried)? {
                Resolution::Exact(resolved) => Ok(*resolved),
                Resolution::Streamed(streamed) => self.store_body(origin, *streamed).await,
            }
        };
        fetch::retry(attempt).await
    }

    /// What is in the store and the same as before was checked then.
    async fn check_signatures(
        &self,
        resolved: Resolved,
        context: &Context<'_>,
    ) -> Result<Resolved, Error> {
        if self.signatures.held(&resolved) {
            return Ok(resolved);
        }
        let mut signed = self.signatures.check(&resolved, &self.oci, context).await;
        // A mirror need not have the signatures of what it has.
        let unsigned = matches!(&signed, Err(error) if error.kind() == ErrorKind::Denied && self.oci.is_mirrored(&resolved.origin));
        if unsigned || self.is_mirrors_fault(&signed, &resolved.origin) {
            signed = self
                .signatures
                .check(&resolved, &self.oci, &context.without_mirrors())
                .await;
        }
        Ok(Resolved {
            signed: signed?,
            ..resolved
        })
    }
}
