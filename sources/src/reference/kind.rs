//! The trait of a kind of reference, and the syntax of its texts.

use std::any::Any;
use std::fmt;

use super::Reference;
use super::pattern::{Pattern, PatternError};
use crate::{Digest, Error, PullPolicy};

/// One kind of reference.
///
/// `Display` writes the reference without its scheme. [`canonical`](Self::canonical) adds the
/// scheme.
pub trait ReferenceKind: Any + fmt::Debug + fmt::Display + Send + Sync {
    /// The scheme, for example `oci`.
    fn scheme(&self) -> &'static str;

    /// The canonical form. Parsing it gives an equal reference.
    fn canonical(&self) -> String {
        format!("{}://{self}", self.scheme())
    }

    /// The reference for error messages and logs: the canonical form without secrets.
    fn redacted(&self) -> String {
        self.canonical()
    }

    /// The text that the patterns of the operator's policy are matched against: the canonical form
    /// without its fragment.
    fn policy_subject(&self) -> String {
        without_fragment(&self.canonical()).to_owned()
    }

    /// The server of the content, `host` or `host:port`. Downloads are limited per server. The
    /// scheme if the operator chooses the server.
    fn server(&self) -> String {
        self.scheme().to_owned()
    }

    /// The digest in the reference, if it has one: the manifest's for OCI, the parcel's for Bindle,
    /// else the file's.
    fn pinned(&self) -> Option<Digest> {
        None
    }

    /// The same reference with a digest, so that it always names the artifact with that digest.
    /// `None` if references of this kind cannot have a digest.
    fn pin(&self, _artifact: &Digest) -> Option<Reference> {
        None
    }

    /// How an author adds a digest to a reference of this kind, for the hint of an error.
    fn how_to_pin(&self) -> &'static str {
        "this kind of reference cannot have a digest: use a reference to the registry of the module"
    }

    /// Whether content with these digests is the content that the reference names. True if the
    /// reference has no digest.
    fn accepts(&self, content: &ContentDigests<'_>) -> bool {
        self.pinned()
            .is_none_or(|pinned| pinned == *content.artifact)
    }

    /// The pull policy of a request that has none.
    fn default_pull_policy(&self) -> PullPolicy {
        PullPolicy::IfNotPresent
    }

    /// The name of the program, for `argv[0]`. `None` if the reference has no such name.
    fn program_name(&self) -> Option<String> {
        None
    }
}

/// The digests of the content that a reference was resolved to.
#[derive(Clone, Copy, Debug)]
pub struct ContentDigests<'a> {
    /// The digest of the artifact: a manifest or a file.
    pub artifact: &'a Digest,
    /// The digest of the first download.
    pub first_part: &'a Digest,
    /// The digest that the module must have, if that is required besides the digest of its file.
    pub expected_module: Option<&'a Digest>,
}

/// The syntax of one kind of reference.
#[derive(Clone, Copy)]
pub(super) struct Syntax {
    /// A text that begins with one of these is a reference of this kind.
    pub(super) prefixes: &'static [&'static str],
    /// The possible beginnings of [`ReferenceKind::policy_subject`]. `HOST` is a placeholder for
    /// any host.
    pub(super) subjects: &'static [&'static str],
    /// Reads a whole text.
    pub(super) parse: fn(&str) -> Result<Reference, Error>,
    /// Checks a pattern of the operator's policy: a pattern that no reference can match is an
    /// error.
    pub(super) check_pattern: fn(&Pattern<'_>) -> Result<(), PatternError>,
}

/// The text before its fragment.
pub(super) fn without_fragment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(name, _)| name)
}

/// The last segment of a path, unless it is empty.
pub(super) fn last_segment(path: &str) -> Option<String> {
    path.rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}
