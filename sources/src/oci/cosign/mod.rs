//! Verifies signatures that `cosign` made
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>, and `BUNDLE_SPEC.md` in
//! the same directory).
//!
//! Signatures are in the repository of the signed manifest, in one of two layouts:
//!
//! - The older layout is a manifest with the tag `sha256-HEX.sig`. Each layer is a signed payload
//!   in the "simple signing" format.
//! - The newer layout is Sigstore bundles. They are manifests that refer to the signed manifest by
//!   `subject`, and are found with the referrers API.
//!
//! Both layouts sign the digest of the manifest. The digest and the type of the signature are
//! verified, and the other fields of the payload are ignored.

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

/// The maximum number of signatures that are read, in each layout.
const MAX_SIGNATURES: usize = 32;
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The annotation with the predicate type of a bundle, in the list of referrers.
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
/// The predicate type of signatures. Attestations have other predicate types.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// The payload of the older layout: "simple signing".
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

/// A Sigstore bundle. Only the fields that a verification with a public key needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

/// A DSSE envelope (<https://github.com/secure-systems-lab/dsse/blob/master/envelope.md>).
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

/// An in-toto statement
/// (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>).
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

    /// Fetches a manifest or index with signatures. `None` if it does not exist.
    async fn signature_document(
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
            // Registries without the referrers API return 404 or another client error.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Protocol) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
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
        let Some(Document::Manifest(manifest)) = self
            .source
            .signature_document(self.oci, &path, self.context)
            .await?
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

    /// Whether a signature in the newer layout is valid.
    async fn bundles(&mut self) -> Result<bool, Error> {
        // Without the referrers API, the list is an index with the tag of the referrers tag schema.
        // Some tools always use the tag.
        for path in [
            format!("referrers/{}", self.artifact),
            format!("manifests/{}", self.tag()),
        ] {
            let Some(Document::Index(children)) = self
                .source
                .signature_document(self.oci, &path, self.context)
                .await?
            else {
                continue;
            };
            for child in possible_signatures(children).take(MAX_SIGNATURES) {
                if self.bundle(&child).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a bundle of this referrer is a valid signature.
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
                // A missing or malformed referrer does not make the other signatures invalid.
                tracing::info!(%error, "the manifest of a signature cannot be read; it is ignored");
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

/// Whether one of the signers signed `artifact` with this layer of the older layout.
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

/// Whether one of the signers signed `artifact` with this bundle.
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

    /// The DER prefix of a public key on P-256 (RFC 5480).
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
    fn simple_signatures_are_valid_for_the_signed_manifest_only() {
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
    fn bundles_are_valid_for_the_signed_manifest_only() {
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
            "an attestation is not a signature"
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
