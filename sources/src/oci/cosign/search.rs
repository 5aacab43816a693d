//! The search for signatures of a manifest, in both layouts of [`cosign`](super).

use std::collections::VecDeque;

use bytes::Bytes;

use super::verify::{BUNDLE, SIGNED, SIMPLE_SIGNING, is_signed_in_bundle, is_signed_simply};
use crate::oci::manifest::{Descriptor, Document, Manifest};
use crate::oci::{MAX_MANIFEST_BYTES, OciSource};
use crate::reference::OciReference;
use crate::signer::{RequiredSignature, Signer};
use crate::source::Context;
use crate::{Digest, Error, ErrorKind};

/// The maximum number of signatures that are read, in each layout.
const MAX_SIGNATURES: usize = 32;
/// The annotation with the predicate type of a bundle, in the list of referrers.
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";

impl OciSource {
    /// Verifies that one of the required signers signed the manifest `artifact`.
    pub(crate) async fn check_signature(
        &self,
        oci: &OciReference,
        artifact: &Digest,
        required: &RequiredSignature,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let rule = required.rule.as_str();
        let mut search = Search {
            source: self,
            oci,
            artifact,
            signers: &required.signers,
            context,
            found: 0,
            failed: None,
        };
        if search.simple_signatures().await? || search.bundles().await? {
            tracing::info!(
                repository = oci.repository(),
                %artifact,
                rule,
                "the signature was verified"
            );
            return Ok(());
        }
        Err(search.error(rule))
    }

    /// Fetches a manifest with a tag, or the list of referrers in all its pages. `None` if it does
    /// not exist.
    async fn signature_document(
        &self,
        oci: &OciReference,
        path: &str,
        context: &Context<'_>,
    ) -> Result<Option<Document>, Error> {
        let what = format!("list of signatures of `{}`", oci.repository());
        let what = what.as_str();
        let pages = match path.starts_with("referrers/") {
            true => {
                self.first_of_servers(oci, context, |repository| async move {
                    self.pages(&repository, path, what, context).await
                })
                .await
            }
            false => match self.request(oci, path, what, context).await {
                Ok(answer) => Ok(vec![answer.bytes(MAX_MANIFEST_BYTES, what).await?]),
                Err(error) => Err(error),
            },
        };
        match pages {
            Ok(pages) => merged(&pages).map(Some),
            // Registries without the referrers API return 404 or another client error.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Protocol) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// One document from the pages of a list. A manifest has one page.
fn merged(pages: &[Bytes]) -> Result<Document, Error> {
    let mut children = Vec::new();
    for page in pages {
        match Document::parse(page)? {
            Document::Index(entries) => children.extend(entries),
            manifest @ Document::Manifest(_) => return Ok(manifest),
        }
    }
    Ok(Document::Index(children))
}

/// The search for a valid signature of a required signer. Ends with the first.
struct Search<'a> {
    source: &'a OciSource,
    oci: &'a OciReference,
    artifact: &'a Digest,
    signers: &'a [Signer],
    context: &'a Context<'a>,
    /// Number of signatures that were read.
    found: usize,
    /// The error of a signature that could not be read. Another signature may still be valid.
    failed: Option<Error>,
}

impl Search<'_> {
    /// Whether a signature in the older layout is valid.
    async fn simple_signatures(&mut self) -> Result<bool, Error> {
        let path = format!("manifests/{}.sig", self.tag());
        let document = self
            .source
            .signature_document(self.oci, &path, self.context)
            .await?;
        let mut manifests = Manifests::below(document);
        while let Some(manifest) = self.next(&mut manifests).await? {
            let payloads = manifest
                .layers
                .iter()
                .filter(|layer| layer.media_type == SIMPLE_SIGNING);
            for layer in payloads.take(MAX_SIGNATURES) {
                let payload = self.content(layer).await;
                if payload.is_some_and(|payload| {
                    is_signed_simply(&payload, layer, self.artifact, self.signers)
                }) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a signature in the newer layout is valid.
    async fn bundles(&mut self) -> Result<bool, Error> {
        // Without the referrers API, the list is an index with the tag of the referrers tag schema.
        // Some tools always use the tag.
        for path in [
            format!("referrers/{}", self.artifact),
            format!("manifests/{}", self.tag()),
        ] {
            let document = self
                .source
                .signature_document(self.oci, &path, self.context)
                .await?;
            // The list itself is not a signature.
            let list = document.filter(|document| matches!(document, Document::Index(_)));
            let mut manifests = Manifests::below(list);
            while let Some(manifest) = self.next(&mut manifests).await? {
                if self.bundle(&manifest).await {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a bundle in the manifest is a valid signature.
    async fn bundle(&mut self, manifest: &Manifest) -> bool {
        let bundles = manifest
            .layers
            .iter()
            .filter(|layer| layer.media_type.starts_with(BUNDLE));
        for layer in bundles.take(MAX_SIGNATURES) {
            let bundle = self.content(layer).await;
            if bundle
                .is_some_and(|bundle| is_signed_in_bundle(&bundle, self.artifact, self.signers))
            {
                return true;
            }
        }
        false
    }

    /// Fetches the next manifest that may be a signature. The entries of an index come after the
    /// manifests that are known already.
    async fn next(&self, manifests: &mut Manifests) -> Result<Option<Manifest>, Error> {
        if let Some(manifest) = manifests.first.take() {
            return Ok(Some(manifest));
        }
        while manifests.fetched < MAX_SIGNATURES
            && let Some(child) = manifests.waiting.pop_front()
        {
            manifests.fetched += 1;
            let document = self.source.document(self.oci, &child.digest, self.context);
            match document.await {
                Ok(Document::Manifest(manifest)) => return Ok(Some(manifest)),
                Ok(Document::Index(children)) => {
                    manifests.waiting.extend(possible_signatures(children));
                }
                Err(error) if error.retryable() => return Err(error),
                // A missing or malformed referrer does not make the other signatures invalid.
                Err(error) => {
                    tracing::info!(%error, "the manifest of a signature cannot be read; it is ignored");
                }
            }
        }
        Ok(None)
    }

    /// Fetches the blob of a signature. `None` after an error, which `failed` then has.
    async fn content(&mut self, layer: &Descriptor) -> Option<Bytes> {
        self.found += 1;
        let content = self
            .source
            .small_blob(self.oci, layer, "signature", self.context)
            .await;
        content.map_err(|error| self.failed = Some(error)).ok()
    }

    /// The tag of the referrers tag schema, `sha256-HEX`.
    fn tag(&self) -> String {
        format!(
            "{}-{}",
            self.artifact.algorithm().name(),
            self.artifact.hex()
        )
    }

    fn error(self, rule: &str) -> Error {
        if let Some(error) = self.failed {
            return error;
        }
        let message = match self.found {
            0 => format!("the module has no signature, and {rule} requires one"),
            1 => format!("the module has a signature, but not one that {rule} requires"),
            count => {
                format!("the module has {count} signatures, but none that {rule} requires")
            }
        };
        Error::new(ErrorKind::Denied, message).with_hint(
            "sign the module with `cosign sign`, or ask the operator which signers are trusted",
        )
    }
}

/// The manifests that may be signatures: one that was fetched already, and those that an index
/// names. At most [`MAX_SIGNATURES`] are fetched.
struct Manifests {
    first: Option<Manifest>,
    waiting: VecDeque<Descriptor>,
    fetched: usize,
}

impl Manifests {
    fn below(document: Option<Document>) -> Self {
        let (first, children) = match document {
            Some(Document::Manifest(manifest)) => (Some(manifest), Vec::new()),
            Some(Document::Index(children)) => (None, children),
            None => (None, Vec::new()),
        };
        Self {
            first,
            waiting: possible_signatures(children).collect(),
            fetched: 0,
        }
    }
}

/// The referrers that may be signatures, most likely first. Attestations are bundles too, and a
/// manifest may have many of them.
fn possible_signatures(children: Vec<Descriptor>) -> impl Iterator<Item = Descriptor> {
    let rank = |child: &Descriptor| match (
        child.annotations.get(PREDICATE_TYPE).map(String::as_str),
        &child.artifact_type,
    ) {
        (Some(SIGNED), _) => Some(0),
        (None, kind) if kind.starts_with(BUNDLE) => Some(1),
        (None, kind) if kind.is_empty() => Some(2),
        _ => None,
    };
    let mut possible: Vec<(u8, Descriptor)> = children
        .into_iter()
        .filter_map(|child| Some((rank(&child)?, child)))
        .collect();
    possible.sort_by_key(|(rank, _)| *rank);
    possible.into_iter().map(|(_, child)| child)
}
