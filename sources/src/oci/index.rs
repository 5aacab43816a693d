//! The manifest below an index. The entries of an index are manifests, or other indexes.

use std::collections::HashSet;

use super::OciSource;
use super::manifest::{Descriptor, Document, Manifest};
use super::select::{self, Child};
use crate::reference::OciReference;
use crate::source::Context;
use crate::{Digest, Error, ErrorKind};

/// The maximum number of documents that are fetched to find one manifest, and so also the maximum
/// depth of indexes. An index cannot contain itself, because its digest names its content.
const MAX_DOCUMENTS: usize = 32;

impl OciSource {
    /// Fetches the manifest with this digest, or the manifest for WebAssembly below the index with
    /// this digest.
    pub(super) async fn manifest(
        &self,
        oci: &OciReference,
        digest: &Digest,
        context: &Context<'_>,
    ) -> Result<Manifest, Error> {
        let mut document = self.document(oci, digest, context).await?;
        let mut fetched = 1;
        loop {
            let children = match document {
                Document::Manifest(manifest) => return Ok(manifest),
                Document::Index(children) => children,
            };
            let child = self
                .child_below(oci, children, &mut fetched, context)
                .await?;
            count(&mut fetched)?;
            document = self.document(oci, &child.digest, context).await?;
        }
    }

    /// Chooses an entry of an index. Opens the indexes among the entries while none of the entries
    /// is known to be for WebAssembly.
    async fn child_below(
        &self,
        oci: &OciReference,
        mut children: Vec<Descriptor>,
        fetched: &mut usize,
        context: &Context<'_>,
    ) -> Result<Descriptor, Error> {
        loop {
            let indexes: Vec<Digest> = match select::child(&children)? {
                Child::Chosen(child) => return Ok(child.clone()),
                Child::Indexes(indexes) => indexes.iter().map(|one| one.digest.clone()).collect(),
            };
            children.retain(|child| !indexes.contains(&child.digest));
            for digest in indexes {
                count(fetched)?;
                match self.document(oci, &digest, context).await? {
                    Document::Index(below) => children.extend(below),
                    Document::Manifest(_) => {
                        return Err(Error::new(
                            ErrorKind::Protocol,
                            format!(
                                "the index describes `{digest}` as an index, but it is a manifest"
                            ),
                        ));
                    }
                }
            }
            // Two indexes can have the same entry.
            let mut seen = HashSet::new();
            children.retain(|child| seen.insert((child.digest.clone(), child.platform.clone())));
        }
    }
}

/// Counts one more document.
fn count(fetched: &mut usize) -> Result<(), Error> {
    *fetched += 1;
    if *fetched <= MAX_DOCUMENTS {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TooLarge,
        format!("more than {MAX_DOCUMENTS} indexes and manifests are below the index"),
    )
    .with_hint("name the manifest for WebAssembly by its digest, `…@sha256:…`"))
}
