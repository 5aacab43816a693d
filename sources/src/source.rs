//! What a source has to do, and what it is told.

use std::fmt::{Debug, Display};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use net::{Body, Caching, Http};
use serde::{Deserialize, Serialize};

use crate::credentials::{self, Candidate, Keyring};
use crate::package::Defaults;
use crate::reference::HttpReference;
use crate::{Digest, Error, Reference};

/// Understands one kind of [`Reference`].
///
/// An implementation talks to its origin and reads its formats. It does not cache, hash, bound or retry content: its
/// bytes are unverified, and only [`Sources::fetch`](crate::Sources::fetch) uses them.
#[async_trait]
pub trait Source: Debug + Display + Send + Sync + 'static {
    /// Finds out what exactly the reference names now. Cheap where the origin can say that without sending it. `stored` is what it named the
    /// last time, where all of that is in the store.
    async fn resolve(
        &self,
        reference: &Reference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error>;

    /// Opens one part of what [`resolve`](Source::resolve) found. The bytes may be anything.
    async fn open_unverified(
        &self,
        resolved: &Resolved,
        part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error>;
}

/// What a source may use.
#[derive(Debug)]
pub struct Context<'a> {
    /// The guarded HTTP client.
    pub http: &'a Http,
    /// The credentials of whoever asks.
    pub keyrings: &'a [Keyring],
    /// Token servers, `host` or `host:port`, that may have any registry's credentials.
    pub trusted_realms: &'a [String],
    /// Whether mirrors are skipped, because the content of one differs from that of its registry.
    pub skip_mirrors: bool,
}

impl Context<'_> {
    /// The same without mirrors.
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

/// What a source found out.
#[derive(Debug)]
pub enum Resolution {
    /// What exactly the reference names.
    Exact(Box<Resolved>),
    /// The origin has no digest of it and sent it: only the content says what it is.
    Streamed(Box<Streamed>),
}

impl From<Resolved> for Resolution {
    fn from(resolved: Resolved) -> Self {
        Self::Exact(Box::new(resolved))
    }
}

/// Content that came without a digest.
#[derive(Debug)]
pub struct Streamed {
    /// The bytes.
    pub body: Body,
    /// How the module is taken out of them.
    pub unpack: Unpack,
    /// What the server says about keeping it.
    pub caching: Caching,
    /// The digest that the module in it must have, if the reference names one.
    pub expected: Option<Digest>,
    /// What the reference led to, where that says more: a version that it does not name.
    pub origin: Option<Reference>,
}

/// What a reference names, exactly. Serialisable: the store keeps it beside the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The reference this answers.
    pub reference: Reference,
    /// Where the content is: the same, unless the reference is a name that leads to another.
    pub origin: Reference,
    /// The digest of what the origin serves as one thing: a manifest, a file. What signatures sign.
    pub artifact: Digest,
    /// The digest of the module itself, where it is known before anything is downloaded.
    pub module: Option<Digest>,
    /// The digest that the module must have, where the reference names it besides that of what it is packed in.
    #[serde(default)]
    pub expected: Option<Digest>,
    /// What has to be downloaded, in the order in which to look for the module.
    pub parts: Vec<Part>,
    /// How the module is taken out of the parts.
    pub unpack: Unpack,
    /// What the module is started with, where that is known before anything is downloaded.
    #[serde(default)]
    pub defaults: Defaults,
    /// What the server said about keeping it, where that is a web server.
    #[serde(default)]
    pub caching: Caching,
    /// The single part, where it must not be in the store.
    #[serde(skip)]
    pub ephemeral: Option<Ephemeral>,
    /// What stands for the rules about signatures that it was found to keep, if there were any.
    #[serde(default)]
    pub signed: Option<Digest>,
}

impl Resolved {
    /// A reference that names one file: the module, or what it is packed in.
    pub(crate) fn file(reference: &Reference, artifact: Digest, part: Part) -> Self {
        let module = Some(part.digest.clone());
        Self {
            module,
            ..Self::packed(reference, artifact, vec![part], Unpack::File)
        }
    }

    /// A reference to what only unpacking shows the module of.
    pub(crate) fn packed(
        reference: &Reference,
        artifact: Digest,
        parts: Vec<Part>,
        unpack: Unpack,
    ) -> Self {
        Self {
            reference: reference.clone(),
            origin: reference.clone(),
            artifact,
            module: None,
            expected: None,
            parts,
            unpack,
            defaults: Defaults::default(),
            caching: Caching::default(),
            ephemeral: None,
            signed: None,
        }
    }

    /// The reference that names exactly this, and nothing else later; `None` for a file.
    pub fn pinned(&self) -> Option<Reference> {
        let digest = &self.artifact;
        match &self.origin {
            Reference::Oci(oci) => Some(Reference::Oci(oci.clone().at(digest.clone()))),
            Reference::Http(http) => {
                HttpReference::new(&http.to_string(), Some(digest.clone()), None)
                    .ok()
                    .map(Reference::Http)
            }
            Reference::Wasmer(package) => Some(Reference::Wasmer(
                package.clone().with_digest(Some(digest.clone())),
            )),
            Reference::Bindle(bindle) => Some(Reference::Bindle(
                bindle.clone().with_parcel(Some(digest.hex().to_owned())),
            )),
            Reference::Wkg(_) | Reference::File(_) => None,
        }
    }

    /// Whether it is what its reference names, as far as that names a digest. What an image's manifest lists is not seen here.
    pub(crate) fn is_consistent(&self) -> bool {
        let first = self.parts.first().map(|part| &part.digest);
        let pinned = self.reference.pinned();
        let kept = match &self.reference {
            Reference::Oci(_) | Reference::Wkg(_) | Reference::File(_) => {
                pinned.is_none_or(|pinned| pinned == self.artifact)
            }
            Reference::Http(http) => {
                let expected = http.module_digest();
                pinned.is_none_or(|pinned| Some(&pinned) == first)
                    && (expected.is_none() || expected == self.expected.as_ref())
            }
            Reference::Wasmer(_) | Reference::Bindle(_) => {
                pinned.is_none_or(|pinned| Some(&pinned) == first)
            }
        };
        kept && first.is_some()
    }

    /// What the package is remembered by: the same parts, unpacked in the same way, and held to the same digest.
    pub fn package_key(&self) -> Digest {
        let parts: Vec<&Digest> = self.parts.iter().map(|part| &part.digest).collect();
        let (unpack, expected, defaults) = (&self.unpack, &self.expected, &self.defaults);
        Digest::of(format!("{parts:?}{unpack:?}{expected:?}{defaults:?}").as_bytes())
    }
}

/// Content in a file without a name: it is gone with the last who holds it, and with the process.
#[derive(Clone, Debug)]
pub struct Ephemeral(Arc<File>);

impl Ephemeral {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// Opens it, to be read from its beginning.
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

impl PartialEq for Ephemeral {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Ephemeral {}

/// One download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The digest its bytes must have.
    pub digest: Digest,
    /// Its size in bytes, where the origin said it.
    pub size: Option<u64>,
    /// The media type that the origin claims. A hint.
    pub media_type: Option<String>,
}

/// How a module is packed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Unpack {
    /// The single part is the module, or a compressed file or an archive with it: its first bytes tell.
    #[default]
    File,
    /// The parts are the layers of an image, the lowest first.
    Image {
        /// The module's path in it; without one, the only module.
        path: Option<String>,
    },
    /// The single part is a package of the Wasmer registry.
    Wasmer {
        /// The command; without one, the package's entrypoint.
        command: Option<String>,
    },
}

/// Told of a download's progress.
pub trait Progress: Send + Sync {
    /// `done` bytes have arrived, of `total` if that is known.
    fn downloaded(&self, done: u64, total: Option<u64>);
}

/// Nobody watches.
impl Progress for () {
    fn downloaded(&self, _done: u64, _total: Option<u64>) {}
}

/// A shared watcher.
pub type SharedProgress = Arc<dyn Progress>;
