//! The table of sources, by kind of reference.
//!
//! A [`Source`] works with its own type of reference. [`AnySource`] is the same interface for any
//! [`Reference`]. The conversion between the two is implemented here, once for all sources.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use net::Body;

use crate::reference::ReferenceKind;
use crate::signer::RequiredSignature;
use crate::source::{Context, Locator, Resolution, Source};
use crate::{Digest, Error, ErrorKind, Part, Reference, Resolved};

/// All sources and locators.
#[derive(Debug, Default)]
pub(crate) struct SourceTable {
    sources: HashMap<TypeId, Arc<dyn AnySource>>,
    locators: HashMap<TypeId, Arc<dyn AnyLocator>>,
}

impl SourceTable {
    /// Adds a source.
    pub(crate) fn source<S: Source>(mut self, source: Arc<S>) -> Self {
        let kind = TypeId::of::<S::Reference>();
        self.sources.insert(kind, source);
        self
    }

    /// Adds a locator.
    pub(crate) fn locator<L: Locator>(mut self, locator: L) -> Self {
        let kind = TypeId::of::<L::Reference>();
        self.locators.insert(kind, Arc::new(locator));
        self
    }

    /// The source for the reference.
    pub(crate) fn get(&self, reference: &Reference) -> Result<&dyn AnySource, Error> {
        let source = self.sources.get(&reference.kind_id());
        source.map(|source| &**source).ok_or_else(|| {
            let message = format!(
                "there is no source for references with the scheme `{}`",
                reference.scheme()
            );
            Error::new(ErrorKind::Unsupported, message)
        })
    }

    /// The locator for the reference, if the reference names a package in a directory of names.
    pub(crate) fn get_locator(&self, reference: &Reference) -> Option<&dyn AnyLocator> {
        let locator = self.locators.get(&reference.kind_id());
        locator.map(|locator| &**locator)
    }

    /// Whether the content of the reference is on this machine.
    pub(crate) fn is_local(&self, reference: &Reference) -> bool {
        self.get(reference).is_ok_and(AnySource::is_local)
    }

    /// See [`Source::without_default_server`].
    pub(crate) fn without_default_server(&self, reference: &Reference) -> Option<Reference> {
        self.get(reference).ok()?.without_default_server(reference)
    }
}

/// [`Source`] for any reference. The methods are documented at [`Source`].
#[async_trait]
pub(crate) trait AnySource: Debug + Send + Sync {
    async fn resolve(
        &self,
        reference: &Reference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error>;

    async fn open_unverified(
        &self,
        origin: &Reference,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error>;

    async fn verify_signature(
        &self,
        origin: &Reference,
        artifact: &Digest,
        required: &RequiredSignature,
        context: &Context<'_>,
    ) -> Result<(), Error>;

    fn server(&self, reference: &Reference) -> Option<String>;
    fn is_local(&self) -> bool;
    fn may_stream_on_resolve(&self, reference: &Reference) -> bool;
    fn has_mirrors(&self, reference: &Reference) -> bool;
    fn without_default_server(&self, reference: &Reference) -> Option<Reference>;
    fn trusted_keys(&self) -> Option<Digest>;
    fn supports_signatures(&self) -> bool;
}

#[async_trait]
impl<S: Source> AnySource for S {
    async fn resolve(
        &self,
        reference: &Reference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error> {
        Source::resolve(self, own(reference)?, stored, context).await
    }

    async fn open_unverified(
        &self,
        origin: &Reference,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error> {
        Source::open_unverified(self, own(origin)?, part, context).await
    }

    async fn verify_signature(
        &self,
        origin: &Reference,
        artifact: &Digest,
        required: &RequiredSignature,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        Source::verify_signature(self, own(origin)?, artifact, required, context).await
    }

    fn server(&self, reference: &Reference) -> Option<String> {
        Source::server(self, reference.as_kind()?)
    }

    fn is_local(&self) -> bool {
        Source::is_local(self)
    }

    fn may_stream_on_resolve(&self, reference: &Reference) -> bool {
        reference
            .as_kind()
            .is_some_and(|own| Source::may_stream_on_resolve(self, own))
    }

    fn has_mirrors(&self, reference: &Reference) -> bool {
        reference
            .as_kind()
            .is_some_and(|own| Source::has_mirrors(self, own))
    }

    fn without_default_server(&self, reference: &Reference) -> Option<Reference> {
        Source::without_default_server(self, reference.as_kind()?).map(Into::into)
    }

    fn trusted_keys(&self) -> Option<Digest> {
        Source::trusted_keys(self)
    }

    fn supports_signatures(&self) -> bool {
        Source::supports_signatures(self)
    }
}

/// [`Locator`] for any reference.
#[async_trait]
pub(crate) trait AnyLocator: Debug + Send + Sync {
    async fn locate(
        &self,
        reference: &Reference,
        context: &Context<'_>,
    ) -> Result<Reference, Error>;
}

#[async_trait]
impl<L: Locator> AnyLocator for L {
    async fn locate(
        &self,
        reference: &Reference,
        context: &Context<'_>,
    ) -> Result<Reference, Error> {
        Locator::locate(self, own(reference)?, context).await
    }
}

/// The reference as the source's own type. The table calls a source with references of its kind
/// only.
fn own<R: ReferenceKind>(reference: &Reference) -> Result<&R, Error> {
    reference.as_kind().ok_or_else(|| {
        let message = format!(
            "`{}` was given to a source of another kind; this is a defect of this program",
            reference.redacted()
        );
        Error::new(ErrorKind::InvalidReference, message)
    })
}
