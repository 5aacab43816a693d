//! The traits that a source implements.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use net::{Body, Caching, Http};

use crate::credentials::{self, Candidate, Keyring};
use crate::reference::ReferenceKind;
use crate::signer::RequiredSignature;
use crate::{Digest, Error, Part, Reference, Resolved, Unpack};

/// A source of modules: it understands one kind of [`Reference`].
///
/// An implementation talks to its origin and reads the origin's formats.
/// [`Sources`](crate::Sources) checks digests, limits sizes, retries broken downloads, stores and
/// unpacks. A source cannot skip these checks: its bytes are unverified until then.
///
/// The methods without `async` are facts about the source. Their defaults are right for most
/// sources.
#[async_trait]
pub trait Source: Debug + Send + Sync + 'static {
    /// The kind of reference.
    type Reference: ReferenceKind + Into<Reference>;

    /// Finds the digests of the content that the reference names now. Called at most once per
    /// workflow and reference, except after failures. If the origin can return a digest without the
    /// content, this method must not download the content. `stored` is the last result, if all of
    /// its content is in the store.
    async fn resolve(
        &self,
        reference: &Self::Reference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error>;

    /// Opens one part of the content of `origin`, which is [`Resolved::origin`]. The caller
    /// verifies the bytes.
    async fn open_unverified(
        &self,
        origin: &Self::Reference,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error>;

    /// The server that has the content, `host` or `host:port`. `None` if the content is on this
    /// machine, or if no server is configured.
    fn server(&self, reference: &Self::Reference) -> Option<String>;

    /// Whether the content is on this machine. Local content is not stored, and needs no
    /// credentials.
    fn is_local(&self) -> bool {
        false
    }

    /// Whether [`resolve`](Self::resolve) may return [`Resolution::Streamed`]. Resolving then needs
    /// a permit to download.
    fn may_stream_on_resolve(&self, _reference: &Self::Reference) -> bool {
        false
    }

    /// Whether some content of the reference may come from a mirror.
    fn has_mirrors(&self, _reference: &Self::Reference) -> bool {
        false
    }

    /// The reference without its server, if it names the operator's default server. Rules and
    /// caches then treat both forms as one reference.
    fn without_default_server(&self, _reference: &Self::Reference) -> Option<Self::Reference> {
        None
    }

    /// Digest of the keys that this source itself verifies signatures with. `None` if it has no
    /// keys.
    fn trusted_keys(&self) -> Option<Digest> {
        None
    }

    /// Whether [`verify_signature`](Self::verify_signature) is implemented.
    fn supports_signatures(&self) -> bool {
        false
    }

    /// Verifies that a required signer signed the artifact.
    async fn verify_signature(
        &self,
        _origin: &Self::Reference,
        _artifact: &Digest,
        required: &RequiredSignature,
        _context: &Context<'_>,
    ) -> Result<(), Error> {
        Err(required.cannot_be_signed())
    }
}

/// A directory of names: it translates one kind of [`Reference`] into a reference with content.
#[async_trait]
pub trait Locator: Debug + Send + Sync + 'static {
    /// The kind of reference.
    type Reference: ReferenceKind;

    /// Finds the reference that has the content.
    async fn locate(
        &self,
        reference: &Self::Reference,
        context: &Context<'_>,
    ) -> Result<Reference, Error>;
}

/// What a source may use for one request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The guarded HTTP client.
    pub http: &'a Http,
    /// The credentials of the requester.
    pub keyrings: &'a [Keyring],
    /// Token servers, `host` or `host:port`, that may have any registry's credentials.
    pub trusted_realms: &'a [String],
    /// Whether mirrors are skipped: the content of a mirror differed from its registry.
    pub skip_mirrors: bool,
}

impl Context<'_> {
    /// The same context, with mirrors skipped.
    pub(crate) fn without_mirrors(&self) -> Self {
        Self {
            skip_mirrors: true,
            ..*self
        }
    }

    /// The credentials for `target`, `host[:port]/path`, best first.
    pub(crate) fn candidates(&self, target: &str) -> Vec<Candidate> {
        credentials::candidates(self.keyrings, target)
    }
}

/// The result of [`Source::resolve`].
#[derive(Debug)]
pub enum Resolution {
    /// The digests of the content that the reference names.
    Exact(Box<Resolved>),
    /// The content itself, because the origin publishes no digest of the content.
    Streamed(Box<Streamed>),
}

impl From<Resolved> for Resolution {
    fn from(resolved: Resolved) -> Self {
        Self::Exact(Box::new(resolved))
    }
}

/// Content whose digest is known only after all bytes were received.
#[derive(Debug)]
pub struct Streamed {
    /// The bytes.
    pub body: Body,
    /// How the module is unpacked.
    pub unpack: Unpack,
    /// The response headers that control the store.
    pub caching: Caching,
    /// The digest that the module must have, if the reference names one.
    pub expected: Option<Digest>,
    /// A more exact reference, if the source found one: for example with the newest version.
    pub origin: Option<Reference>,
}

/// Receives the progress of a download.
pub trait Progress: Send + Sync {
    /// Called after each chunk. `done` is the number of bytes that arrived; `total` is the
    /// announced size in bytes, if the origin announced a size.
    fn downloaded(&self, done: u64, total: Option<u64>);
}

/// Ignores the progress.
impl Progress for () {
    fn downloaded(&self, _done: u64, _total: Option<u64>) {}
}

/// A receiver of progress that several downloads share.
pub type SharedProgress = Arc<dyn Progress>;
