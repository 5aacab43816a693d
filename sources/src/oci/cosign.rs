//! Signatures that `cosign` made (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>, and
//! `BUNDLE_SPEC.md` beside it).
//!
//! They are beside the image, in the same repository, in one of two layouts: under the tag `sha256-HEX.sig` with a payload for each
//! signature, or as bundles that refer to the manifest. What is signed names the manifest's digest; nothing else of it counts here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;

use super::manifest::{Descriptor, Document};
use super::{MAX_MANIFEST_BYTES, OciSource};
use crate::reference::OciReference;
use crate::signer::{PublicKey, RequiredSignature, Signer};
use crate::source::Context;
use crate::{Digest, Error, ErrorKind};

/// Who signed a great many times signed none too many.
const MAX_SIGNATURES: usize = 32;
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// In the list of what refers to a manifest, what a bundle says about it.
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// What the older layout signs.
#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: CriticalImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct CriticalImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// A Sigstore bundle, as far as it counts without a transparency log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

/// <https://github.com/secure-systems-lab/dsse/blob/master/envelope.md>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

impl Envelope {
    fn is_signed_with(&self, key: &PublicKey, payload: &[u8]) -> bool {
        let kind = &self.payload_type;
        let message = [
            format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(),
            payload,
        ]
        .concat();
        let mut signatures = self
            .signatures
            .iter()
            .filter_map(|signature| STANDARD.decode(&signature.sig).ok());
        signatures.any(|signature| key.signed(&message, &signature))
    }
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: Option<String>,
}

impl OciSource {
    /// Checks that a required signer signed the manifest `artifact`.
    pub(crate) async fn check_signature(
        &self,
        oci: &OciReference,
        artifact: &Digest,
        required: &RequiredSignature,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let whose = required.rule.as_str();
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
            tracing::info!(repository = oci.repository(), %artifact, whose, "signed");
            return Ok(());
        }
        Err(search.error(whose))
    }

    /// A document that need not be there.
    async fn beside(
        &self,
        oci: &OciReference,
        path: &str,
        context: &Context<'_>,
    ) -> Result<Option<Document>, Error> {
        let what = format!("list of signatures of `{}`", oci.repository());
        match self.request(oci, path, Method::GET, &what, context).await {
            Ok(answer) => {
                Document::parse(&answer.bytes(MAX_MANIFEST_BYTES, &what).await?).map(Some)
            }
            // What registries say that know no such request.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Protocol) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The search for a signature that counts, which ends with the first.
struct Search<'a> {
    source: &'a OciSource,
    oci: &'a OciReference,
    artifact: &'a Digest,
    signers: &'a [Signer],
    context: &'a Context<'a>,
    /// Signatures that were looked at.
    found: usize,
    /// Why one could not be looked at. Another may be whole.
    failed: Option<Error>,
}

impl Search<'_> {
    /// Whether one in the older layout counts.
    async fn simple_signatures(&mut self) -> Result<bool, Error> {
        let path = format!("manifests/{}.sig", self.tag());
        let Some(Document::Manifest(manifest)) =
            self.source.beside(self.oci, &path, self.context).await?
        else {
            return Ok(false);
        };
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
        Ok(false)
    }

    /// Whether one in the newer layout counts.
    async fn bundles(&mut self) -> Result<bool, Error> {
        // Registries without that API keep the list under a tag, and so do tools that do not trust it.
        for path in [
            format!("referrers/{}", self.artifact),
            format!("manifests/{}", self.tag()),
        ] {
            let Some(Document::Index(children)) =
                self.source.beside(self.oci, &path, self.context).await?
            else {
                continue;
            };
            for child in likely(children).take(MAX_SIGNATURES) {
                if self.bundle(&child).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn bundle(&mut self, child: &Descriptor) -> Result<bool, Error> {
        let manifest = match self
            .source
            .document(self.oci, &child.digest, self.context)
            .await
        {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => return Ok(false),
            Err(error) if error.retryable() => return Err(error),
            Err(error) => {
                // One that is gone says nothing of the others.
                tracing::info!(%error, "a signature is not there");
                return Ok(false);
            }
        };
        for layer in manifest
            .layers
            .iter()
            .filter(|layer| layer.media_type.starts_with(BUNDLE))
            .take(MAX_SIGNATURES)
        {
            let bundle = self.content(layer).await;
            if bundle
                .is_some_and(|bundle| is_signed_in_bundle(&bundle, self.artifact, self.signers))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn content(&mut self, layer: &Descriptor) -> Option<Bytes> {
        self.found += 1;
        let content = self
            .source
            .small_blob(self.oci, layer, "the signature", self.context)
            .await;
        content.map_err(|error| self.failed = Some(error)).ok()
    }

    /// What signatures are kept under in registries that know no other way.
    fn tag(&self) -> String {
        format!(
            "{}-{}",
            self.artifact.algorithm().name(),
            self.artifact.hex()
        )
    }

    fn error(self, whose: &str) -> Error {
        if let Some(error) = self.failed {
            return error;
        }
        let message = match self.found {
            0 => format!("nobody signed it, and {whose} asks for that"),
            1 => format!("it has a signature, and not one that {whose} asks for"),
            count => format!("it has {count} signatures, and none that {whose} asks for"),
        };
        Error::new(ErrorKind::Denied, message)
            .hint("sign it with `cosign sign`, or ask the operator whose signature counts")
    }
}

/// What may be a signature, the likeliest first: attestations are bundles too, and there may be any number of them.
fn likely(children: Vec<Descriptor>) -> impl Iterator<Item = Descriptor> {
    let rank = |child: &Descriptor| match (
        child.annotations.get(PREDICATE_TYPE).map(String::as_str),
        &child.artifact_type,
    ) {
        (Some(SIGNED), _) => Some(0),
        (None, kind) if kind.starts_with(BUNDLE) => Some(1),
        (None, kind) if kind.is_empty() => Some(2),
        _ => None,
    };
    let mut likely: Vec<(u8, Descriptor)> = children
        .into_iter()
        .filter_map(|child| Some((rank(&child)?, child)))
        .collect();
    likely.sort_by_key(|(rank, _)| *rank);
    likely.into_iter().map(|(_, child)| child)
}

fn is_signed_simply(
    payload: &Bytes,
    layer: &Descriptor,
    artifact: &Digest,
    signers: &[Signer],
) -> bool {
    let signature = layer
        .annotations
        .get(SIGNATURE)
        .and_then(|text| STANDARD.decode(text).ok());
    let Some(signature) = signature else {
        return false;
    };
    let Ok(signed) = serde_json::from_slice::<SimpleSigning>(payload) else {
        return false;
    };
    let Critical { image, kind } = signed.critical;
    kind == "cosign container image signature"
        && image.digest == artifact.to_string()
        && signers
            .iter()
            .any(|signer| signer.signed(payload, &signature))
}

fn is_signed_in_bundle(bytes: &Bytes, artifact: &Digest, signers: &[Signer]) -> bool {
    let Ok(Bundle {
        dsse_envelope: Some(envelope),
    }) = serde_json::from_slice(bytes)
    else {
        return false;
    };
    let Ok(payload) = STANDARD.decode(&envelope.payload) else {
        return false;
    };
    let Ok(statement) = serde_json::from_slice::<Statement>(&payload) else {
        return false;
    };
    let is_subject = |subject: &Subject| subject.digest.sha256.as_deref() == Some(artifact.hex());
    envelope.payload_type == IN_TOTO
        && statement.predicate_type == SIGNED
        && statement.subject.iter().any(is_subject)
        && signers.iter().any(|signer| match signer {
            Signer::Key(key) => envelope.is_signed_with(key, &payload),
            #[cfg(feature = "keyless")]
            Signer::Keyless(signer) => signer.signed(bytes, artifact),
        })
}

#[cfg(test)]
mod tests {
    use ::ring::rand::SystemRandom;
    use ::ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    /// What stands before a key on P-256 (RFC 5480).
    const P256: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

    fn key() -> (EcdsaKeyPair, Signer) {
        let random = SystemRandom::new();
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random)
                .unwrap();
        let der = [&hex::decode(P256).unwrap(), pair.public_key().as_ref()].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        (pair, Signer::Key(PublicKey::from_pem(&pem).unwrap()))
    }

    fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> String {
        STANDARD.encode(pair.sign(&SystemRandom::new(), message).unwrap())
    }

    fn payload(digest: &Digest, kind: &str) -> Bytes {
        let image = json!({"docker-manifest-digest": digest.to_string()});
        json!({"critical": {"image": image, "type": kind}, "optional": null})
            .to_string()
            .into()
    }

    fn layer(signature: &str) -> Descriptor {
        let descriptor = json!({"mediaType": SIMPLE_SIGNING, "digest": Digest::of(b""), "size": 0, "annotations": {SIGNATURE: signature}});
        let manifest = json!({"schemaVersion": 2, "layers": [descriptor]}).to_string();
        match Document::parse(manifest.as_bytes()).unwrap() {
            Document::Manifest(manifest) => manifest.layers[0].clone(),
            Document::Index(_) => panic!("an index"),
        }
    }

    #[test]
    fn what_is_signed_is_this_manifest_and_nothing_else() {
        let (pair, public) = key();
        let (_, other) = key();
        let artifact = Digest::of(b"manifest");
        let kind = "cosign container image signature";
        let good = payload(&artifact, kind);
        let signed = |payload: &Bytes, signature: &str, signers: &[Signer]| {
            is_signed_simply(payload, &layer(signature), &artifact, signers)
        };
        let signature = sign(&pair, &good);
        assert!(signed(&good, &signature, &[other.clone(), public.clone()]));
        assert!(!signed(&good, &signature, &[other]) && !signed(&good, &signature, &[]));
        assert!(
            !signed(&good, "", std::slice::from_ref(&public)),
            "no signature"
        );
        for wrong in [
            payload(&Digest::of(b"another"), kind),
            payload(&artifact, "atomic container signature"),
        ] {
            assert!(
                !signed(&wrong, &sign(&pair, &wrong), std::slice::from_ref(&public)),
                "{wrong:?}"
            );
            assert!(
                !signed(&wrong, &signature, std::slice::from_ref(&public)),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn bundles_are_held_to_the_same() {
        let (pair, public) = key();
        let artifact = Digest::of(b"manifest");
        let bundle = |digest: &Digest, predicate: &str, payload_type: &str| {
            let statement = json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate,
                "subject": [{"digest": {"sha256": digest.hex()}}]});
            let payload = statement.to_string();
            let message = format!(
                "DSSEv1 {} {payload_type} {} {payload}",
                payload_type.len(),
                payload.len()
            );
            let envelope = json!({"payload": STANDARD.encode(&payload), "payloadType": payload_type,
                "signatures": [{"sig": sign(&pair, message.as_bytes()), "keyid": ""}]});
            Bytes::from(
                json!({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope})
                    .to_string(),
            )
        };
        let signed =
            |bundle: &Bytes| is_signed_in_bundle(bundle, &artifact, std::slice::from_ref(&public));
        assert!(signed(&bundle(&artifact, SIGNED, IN_TOTO)));
        assert!(!signed(&bundle(&Digest::of(b"another"), SIGNED, IN_TOTO)));
        assert!(
            !signed(&bundle(
                &artifact,
                "https://slsa.dev/provenance/v1",
                IN_TOTO
            )),
            "an attestation is no signature"
        );
        assert!(!signed(&bundle(&artifact, SIGNED, "text/plain")));
        assert!(!signed(&Bytes::from_static(b"{}")) && !signed(&Bytes::from_static(b"")));
        let (_, other) = key();
        assert!(!is_signed_in_bundle(
            &bundle(&artifact, SIGNED, IN_TOTO),
            &artifact,
            &[other]
        ));
    }
}
