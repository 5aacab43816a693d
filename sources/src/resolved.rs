//! The result of resolving a reference.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use net::Caching;
use serde::{Deserialize, Serialize};

use crate::package::Defaults;
use crate::reference::ContentDigests;
use crate::{Digest, Reference};

/// The exact content that a reference was resolved to. Serialisable: the store writes it to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The reference that was resolved.
    pub reference: Reference,
    /// The reference that has the content. Differs from `reference` if a locator translated that,
    /// or if the newest version was found.
    pub origin: Reference,
    /// The digest of the artifact: a manifest or a file. Signatures sign this digest.
    pub artifact: Digest,
    /// The digest of the module itself, if it is known before the download.
    pub module: Option<Digest>,
    /// The digest that the unpacked module must have, if the reference names one.
    #[serde(default)]
    pub expected: Option<Digest>,
    /// The downloads, in the order in which they are unpacked.
    pub parts: Vec<Part>,
    /// How the module is unpacked from the parts.
    pub unpack: Unpack,
    /// The defaults that the module is started with, if they are known before the download.
    #[serde(default)]
    pub defaults: Defaults,
    /// The caching headers of a web server.
    #[serde(default)]
    pub caching: Caching,
    /// The content of the single part, if the server forbids to store it.
    #[serde(skip)]
    pub ephemeral: Option<Ephemeral>,
    /// Digest of the signature rules that this artifact was last verified against. `None` if no
    /// rule applied. A changed rule forces verification again.
    #[serde(default)]
    pub signed: Option<Digest>,
    /// Whether the requester may use the content, as far as this process has found out.
    #[serde(skip)]
    pub(crate) granted: Granted,
}

/// Remembers that a requester may use content. Equal to every other value: it is no part of the
/// result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted(Arc<AtomicBool>);

impl Granted {
    pub(crate) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl PartialEq for Granted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Granted {}

impl Resolved {
    /// The result for a reference to one file: a module, a compressed module or an archive.
    pub(crate) fn file(reference: impl Into<Reference>, artifact: Digest, part: Part) -> Self {
        let module = Some(part.digest.clone());
        Self {
            module,
            ..Self::packed(reference, artifact, vec![part], Unpack::File)
        }
    }

    /// The result for a reference whose module is known only after unpacking.
    pub(crate) fn packed(
        reference: impl Into<Reference>,
        artifact: Digest,
        parts: Vec<Part>,
        unpack: Unpack,
    ) -> Self {
        let reference = reference.into();
        Self {
            origin: reference.clone(),
            reference,
            artifact,
            module: None,
            expected: None,
            parts,
            unpack,
            defaults: Defaults::default(),
            caching: Caching::default(),
            ephemeral: None,
            signed: None,
            granted: Granted::default(),
        }
    }

    /// The origin with a digest, so that it always names this content. `None` if references of its
    /// kind cannot have a digest.
    pub fn pinned(&self) -> Option<Reference> {
        self.origin.pin(&self.artifact)
    }

    /// Whether the content has the digest that the reference names, if it names one. The layers of
    /// an image are not compared with its manifest here.
    pub(crate) fn is_consistent(&self) -> bool {
        let Some(first) = self.parts.first() else {
            return false;
        };
        self.reference.accepts(&ContentDigests {
            artifact: &self.artifact,
            first_part: &first.digest,
            expected_module: self.expected.as_ref(),
        })
    }

    /// The key of the package in the store. Results with the same parts, unpacking, expected digest
    /// and defaults have the same key.
    pub fn package_key(&self) -> Digest {
        let parts: Vec<&Digest> = self.parts.iter().map(|part| &part.digest).collect();
        let unpack = &self.unpack;
        let expected = &self.expected;
        let defaults = &self.defaults;
        Digest::of(format!("{parts:?}{unpack:?}{expected:?}{defaults:?}").as_bytes())
    }
}

/// Content in an unlinked file. The file is removed when its last holder is dropped, or when the
/// process ends.
#[derive(Clone, Debug)]
pub struct Ephemeral(Arc<File>);

impl Ephemeral {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// Opens the file for reading from its beginning.
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

/// One download: a file, a layer or a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The digest that the bytes must have.
    pub digest: Digest,
    /// The size in bytes, if the origin announced a size.
    pub size: Option<u64>,
    /// The media type that the origin announced. It is not verified.
    pub media_type: Option<String>,
}

/// How a module is packed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Unpack {
    /// The single part is a module, a compressed module or an archive. The first bytes tell which.
    #[default]
    File,
    /// The parts are the layers of an image, the lowest first.
    Image {
        /// The path of the module in the image. `None` for the only module.
        path: Option<String>,
    },
    /// The single part is a package of the Wasmer registry. Stored under the name of its scheme.
    #[serde(rename = "wapm")]
    Wasmer {
        /// The command. `None` for the entrypoint of the package.
        command: Option<String>,
    },
}
