//! Keyless signatures of Sigstore (<https://docs.sigstore.dev/cosign/signing/overview/>).
//!
//! A certificate authority (Fulcio) issues a short-lived certificate for an OIDC identity. A
//! transparency log (Rekor) records the signature.
//!
//! `sigstore-verify`, a crate of the Sigstore project, verifies the certificate, the inclusion
//! proof of the log and the signature. This file compares the identity with that of the operator's
//! rule.
//!
//! Only Sigstore bundles have everything that the verification needs. So keyless signatures in the
//! older layout are not supported.

use std::fmt;
use std::sync::Arc;

use net::matches;
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::types::bundle::SignatureContent;
use sigstore_verify::types::{Bundle, DsseEnvelope, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier};

use crate::policy::Identity;
use crate::{Digest, Error, ErrorKind};

/// The reason why a signature is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("{0}")]
    Invalid(String),
    #[error("the signature is of `{0}`")]
    OtherIdentity(String),
    #[error("the certificate has no identity")]
    NoIdentity,
}

impl Rejection {
    fn invalid(error: impl fmt::Display) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// A bundle that is parsed once. So the caller reads the payload that [`Signer::signed`] verifies,
/// also if keys occur twice in the JSON.
#[derive(Debug)]
pub(crate) struct SignedBundle(Bundle);

impl SignedBundle {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Rejection> {
        let json = std::str::from_utf8(json).map_err(Rejection::invalid)?;
        Bundle::from_json(json)
            .map(Self)
            .map_err(Rejection::invalid)
    }

    /// The envelope of the payload. `None` if the bundle signs a message without an envelope.
    pub(crate) fn envelope(&self) -> Option<&DsseEnvelope> {
        match &self.0.content {
            SignatureContent::DsseEnvelope(envelope) => Some(envelope),
            _ => None,
        }
    }
}

/// A trusted identity, with the verifier for its trust root.
#[derive(Clone)]
pub struct Signer {
    identity: Identity,
    verifier: Arc<Verifier>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Creates the signer of an identity. Parses the trust root.
    ///
    /// # Errors
    ///
    /// [`Identity::trusted_root`] is not the text of a `trusted_root.json`.
    pub fn new(identity: &Identity) -> Result<Self, Error> {
        let json = identity
            .trusted_root
            .as_deref()
            .unwrap_or(SIGSTORE_PRODUCTION_TRUSTED_ROOT);
        let invalid = |error: &dyn fmt::Display| {
            let message =
                format!("`keyless.trustedRoot` is not the text of a `trusted_root.json`: {error}");
            Error::new(ErrorKind::InvalidConfig, message)
        };
        let root = TrustedRoot::from_json(json).map_err(|error| invalid(&error))?;
        let verifier = Verifier::new(&root).map_err(|error| invalid(&error))?;
        Ok(Self {
            identity: identity.clone(),
            verifier: Arc::new(verifier),
        })
    }

    /// Whether the bundle is a valid statement of this identity about the manifest `artifact`.
    ///
    /// The caller checks the payload of the same bundle: the bundle may be an attestation.
    pub(crate) fn signed(&self, bundle: &SignedBundle, artifact: &Digest) -> bool {
        self.verify(bundle, artifact)
            .map_err(|reason| tracing::info!(%artifact, %reason, "a signature is not accepted"))
            .is_ok()
    }

    fn verify(&self, bundle: &SignedBundle, artifact: &Digest) -> Result<(), Rejection> {
        let artifact = Sha256Hash::from_hex(artifact.hex()).map_err(Rejection::invalid)?;
        let policy = VerificationPolicy::any_identity().require_issuer(&self.identity.issuer);
        let result = self
            .verifier
            .verify(artifact, &bundle.0, &policy)
            .map_err(Rejection::invalid)?;
        match result.identity() {
            Some(signer) if matches(&self.identity.subject, signer.as_str()) => Ok(()),
            Some(signer) => Err(Rejection::OtherIdentity(signer.as_str().to_owned())),
            None => Err(Rejection::NoIdentity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A person's attestation about a manifest, and the trust root of Sigstore's public services.
    /// Both are from the tests of cosign (`pkg/cosign/testdata`, Apache-2.0).
    const BUNDLE: &str = include_str!("../../tests/fixtures/oci-attestation.sigstore.json");
    const ROOT: &str = include_str!("../../tests/fixtures/trusted_root_pgi.json");
    const MANIFEST: &str =
        "sha256:732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4";

    fn signed(bundle: &str, manifest: &str, change: impl Fn(&mut Identity)) -> Result<(), String> {
        let mut identity = Identity {
            issuer: "https://github.com/login/oauth".to_owned(),
            subject: "cody@soyland.com".to_owned(),
            trusted_root: Some(ROOT.to_owned()),
        };
        change(&mut identity);
        let signer = Signer::new(&identity).unwrap();
        let artifact = manifest.parse().unwrap();
        let verified = SignedBundle::parse(bundle.as_bytes()).and_then(|bundle| {
            let verified = signer.verify(&bundle, &artifact);
            assert_eq!(signer.signed(&bundle, &artifact), verified.is_ok());
            verified
        });
        verified.map_err(|rejection| rejection.to_string())
    }

    #[test]
    fn identity_issuer_and_manifest_must_match() {
        signed(BUNDLE, MANIFEST, |_| {}).unwrap();
        signed(BUNDLE, MANIFEST, |identity| identity.trusted_root = None).unwrap();
        signed(BUNDLE, MANIFEST, |identity| {
            identity.subject = "*@soyland.com".to_owned();
        })
        .unwrap();
        for subject in ["cody@example.com", "*@example.com", "cody", ""] {
            let error = signed(BUNDLE, MANIFEST, |identity| {
                identity.subject = subject.to_owned();
            })
            .unwrap_err();
            assert_eq!(error, "the signature is of `cody@soyland.com`", "{subject}");
        }
        let error = signed(BUNDLE, MANIFEST, |identity| {
            identity.issuer = "https://accounts.google.com".to_owned();
        });
        assert!(error.unwrap_err().contains("issuer"));
        let error =
            signed(BUNDLE, Digest::of(b"another").to_string().as_str(), |_| {}).unwrap_err();
        assert!(error.contains("does not match"), "{error}");
    }

    #[test]
    fn changed_bundles_are_rejected() {
        let another_authority = ROOT.replace("fulcio.sigstore.dev", "fulcio.example.com");
        signed(BUNDLE, MANIFEST, |identity| {
            identity.trusted_root = Some(another_authority.clone());
        })
        .unwrap();
        let value: serde_json::Value = serde_json::from_str(BUNDLE).unwrap();
        for pointer in [
            "/dsseEnvelope/payload",
            "/dsseEnvelope/signatures/0/sig",
            "/verificationMaterial/certificate/rawBytes",
            "/verificationMaterial/tlogEntries/0/integratedTime",
            "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
            "/verificationMaterial/tlogEntries/0/canonicalizedBody",
        ] {
            let mut changed = value.clone();
            let text = changed
                .pointer(pointer)
                .and_then(|text| text.as_str())
                .unwrap_or_else(|| panic!("{pointer}"))
                .to_owned();
            // Replaces one character in the middle of the text.
            let (head, tail) = text.split_at(text.len() / 2);
            let other = if tail.starts_with('1') { "2" } else { "1" };
            *changed.pointer_mut(pointer).unwrap() = format!("{head}{other}{}", &tail[1..]).into();
            assert!(
                signed(&changed.to_string(), MANIFEST, |_| {}).is_err(),
                "{pointer}"
            );
        }
        for bundle in [
            "",
            "{}",
            "[]",
            "{\"mediaType\": \"application/vnd.dev.sigstore.bundle.v0.3+json\"}",
        ] {
            assert!(signed(bundle, MANIFEST, |_| {}).is_err(), "{bundle}");
        }
    }

    #[test]
    fn a_malformed_trust_root_is_an_error() {
        for root in ["", "{}x", "/etc/trusted_root.json"] {
            let identity = Identity {
                trusted_root: Some(root.to_owned()),
                ..Identity::default()
            };
            assert_eq!(
                Signer::new(&identity).unwrap_err().kind(),
                ErrorKind::InvalidConfig,
                "{root}"
            );
        }
    }
}
