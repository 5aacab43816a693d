//! The formats of signatures, and their verification with the key of a signer.
//!
//! Documents around a signature are read as leniently as other JSON of registries. A signed payload
//! is read strictly. Otherwise, another program could read something else in the same payload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use crate::Digest;
use crate::oci::manifest::Descriptor;
#[cfg(feature = "keyless")]
use crate::signer::keyless::SignedBundle;
use crate::signer::{PublicKey, Signer};

/// The media type of a payload of the older layout.
pub(super) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The beginning of the media types of bundles.
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate type of signatures. Attestations have other predicate types.
pub(super) const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

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
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

/// A DSSE envelope (<https://github.com/secure-systems-lab/dsse/blob/master/envelope.md>).
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

impl Envelope {
    /// Whether the envelope has a signature of `artifact` with this key.
    fn signs(&self, artifact: &Digest, key: &PublicKey) -> bool {
        STANDARD.decode(&self.payload).is_ok_and(|payload| {
            is_signature_of(artifact, &self.payload_type, &payload)
                && self.is_signed_with(key, &payload)
        })
    }

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

#[derive(Default, Deserialize)]
#[serde(default)]
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

/// Whether one of the signers signed `artifact` with this layer of the older layout.
pub(super) fn is_signed_simply(
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
///
/// Each kind of signer has its own parser, and parsers differ if a key occurs twice. So the payload
/// is always checked in the document of the parser whose signature is verified.
pub(super) fn is_signed_in_bundle(bytes: &Bytes, artifact: &Digest, signers: &[Signer]) -> bool {
    signers.iter().any(|signer| match signer {
        Signer::Key(key) => go_json::from_slice::<Bundle>(bytes)
            .ok()
            .and_then(|bundle| bundle.dsse_envelope)
            .is_some_and(|envelope| envelope.signs(artifact, key)),
        #[cfg(feature = "keyless")]
        Signer::Keyless(signer) => SignedBundle::parse(bytes).is_ok_and(|bundle| {
            let is_signature = bundle.envelope().is_some_and(|envelope| {
                is_signature_of(
                    artifact,
                    &envelope.payload_type,
                    envelope.payload.as_bytes(),
                )
            });
            is_signature && signer.signed(&bundle, artifact)
        }),
    })
}

/// Whether the payload says that its signer signed `artifact`. An attestation does not.
fn is_signature_of(artifact: &Digest, payload_type: &str, payload: &[u8]) -> bool {
    let Ok(statement) = serde_json::from_slice::<Statement>(payload) else {
        return false;
    };
    let is_subject = |subject: &Subject| subject.digest.sha256.as_deref() == Some(artifact.hex());
    payload_type == IN_TOTO
        && statement.predicate_type == SIGNED
        && statement.subject.iter().any(is_subject)
}

#[cfg(test)]
mod tests {
    use ::ring::rand::SystemRandom;
    use ::ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::oci::manifest::Document;

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
        let good = bundle(&artifact, SIGNED, IN_TOTO);
        assert!(signed(&good));
        let mut odd: serde_json::Value = serde_json::from_slice(&good).unwrap();
        odd["messageSignature"] = json!(null);
        let signatures = odd["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
        signatures.insert(0, json!(null));
        signatures.insert(0, json!({"sig": null, "keyid": null}));
        let odd = odd.to_string().replace("\"payload\"", "\"Payload\"");
        assert!(signed(&odd.into()), "null and the case of keys, as in Go");
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

    /// Two parsers can choose different values of a key that occurs twice.
    #[cfg(feature = "keyless")]
    #[test]
    fn an_attestation_with_a_second_envelope_is_not_a_signature() {
        use crate::policy::Identity;
        use crate::signer::keyless;

        let genuine = include_str!("../../../tests/fixtures/oci-attestation.sigstore.json");
        let root = include_str!("../../../tests/fixtures/trusted_root_pgi.json");
        let digest = "sha256:732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4";
        let artifact: Digest = digest.parse().unwrap();
        let signer = keyless::Signer::new(&Identity {
            issuer: "https://github.com/login/oauth".to_owned(),
            subject: "cody@soyland.com".to_owned(),
            trusted_root: Some(root.to_owned()),
        });
        let signer = signer.unwrap();
        let bundle = SignedBundle::parse(genuine.as_bytes()).unwrap();
        assert!(signer.signed(&bundle, &artifact), "a valid attestation");

        let statement = json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": SIGNED,
            "subject": [{"digest": {"sha256": artifact.hex()}}]});
        let payload = STANDARD.encode(statement.to_string());
        let envelope = json!({"payload": payload, "payloadType": IN_TOTO,
            "signatures": [{"sig": STANDARD.encode("forged")}]});
        let content = genuine.trim().strip_prefix('{').unwrap();
        let content = content.strip_suffix('}').unwrap();
        let signers = [Signer::Keyless(signer)];
        for forged in [
            genuine.to_owned(),
            format!(r#"{{{content},"dsseEnvelope":{envelope}}}"#),
            format!(r#"{{"dsseEnvelope":{envelope},{content}}}"#),
            format!(r#"{{{content},"DSSEENVELOPE":{envelope}}}"#),
            genuine.replacen(
                r#""payload":"#,
                &format!(r#""payload":"{payload}","payload":"#),
                1,
            ),
            genuine.replacen(
                r#""payload":"#,
                &format!(r#""Payload":"{payload}","payload":"#),
                1,
            ),
        ] {
            let signed = is_signed_in_bundle(&forged.clone().into(), &artifact, &signers);
            assert!(!signed, "{forged}");
        }
    }
}
