//! The result of resolving a reference.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use net::Caching;
use serde::{Deserialize, Serialize};

use crate::package::Defaults;
use crate::reference::ContentDigests;
use crate::{Digest, Reference};

/// The exact content that a reference was resolved to. Serialisable: the store keeps it beside the
/// content.
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
    /// The content of the single part, if the server forbids to store it.
    #[serde(skip)]
    pub ephemeral: Option<Ephemeral>,
    /// Digest of the signature rules that this artifact was last verified against. `None` if no rule
    /// applied. A changed rule forces verification again.
    #[serde(default)]
    pub signed: Option<Digest>,
}

impl Resolved {
    /// A reference that names one file: the module, or what it is packed in.
    pub(crate) fn file(reference: impl Into<Reference>, artifact: Digest, part: Part) -> Self {
        let module = Some(part.digest.clone());
        Self {
            module,
            ..Self::packed(reference, artifact, vec![part], Unpack::File)
        }
    }

    /// A reference to what only unpacking shows the module of.
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
        }
    }

    /// The reference with a digest: it always names this content. `None` if references of its kind cannot
    /// have a digest.
    pub fn pinned(&self) -> Option<Reference> {
        self.origin.pin(&self.artifact)
    }

    /// Whether the content has the digest that the reference names, if it names one. The layers of an
    /// image are not compared with its manifest here.
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

    /// What the package is remembered by: the same parts, unpacked in the same way, and held to the same digest.
    pub fn package_key(&self) -> Digest {
        let parts: Vec<&Digest> = self.parts.iter().map(|part| &part.digest).collect();
        let unpack = &self.unpack;
        let expected = &self.expected;
        let defaults = &self.defaults;
        Digest::of(format!("{parts:?}{unpack:?}{expected:?}{defaults:?}").as_bytes())
    }
}

/// Content in an unlinked file. The file is removed when its last holder is dropped, or when the process
/// ends.
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
