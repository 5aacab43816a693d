//! The keys and identities that an operator trusts to sign modules.

#[cfg(feature = "keyless")]
pub mod keyless;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::{RawPublicKeyEntity, ring};

use crate::{Error, ErrorKind};

const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 5] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
];

/// A public key in the format of `cosign`'s `cosign.pub`.
#[derive(Clone, Debug)]
pub struct PublicKey(SubjectPublicKeyInfoDer<'static>);

impl PublicKey {
    /// Parses a public key in PEM.
    ///
    /// # Errors
    ///
    /// The text is not a public key in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::new(
                ErrorKind::InvalidConfig,
                "the key is not a public key in PEM",
            )
        };
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| invalid())?;
        RawPublicKeyEntity::try_from(&key).map_err(|_| invalid())?;
        Ok(Self(key))
    }

    /// Whether `signature` is a valid signature of the message with this key.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(&self.0) else {
            return false;
        };
        ALGORITHMS
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    }
}

/// A signer that the operator trusts.
#[derive(Clone, Debug)]
pub enum Signer {
    /// The owner of the private key for this public key.
    Key(PublicKey),
    /// An identity of Sigstore's keyless signatures.
    #[cfg(feature = "keyless")]
    Keyless(keyless::Signer),
}

impl Signer {
    /// Whether `signature` is a valid signature of the message with the signer's key. Always false
    /// for a keyless signer.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Key(key) => key.signed(message, signature),
            #[cfg(feature = "keyless")]
            Self::Keyless(_) => false,
        }
    }
}

/// The signature that a rule of the operator requires.
#[derive(Clone, Debug)]
pub struct RequiredSignature {
    /// Name of the rule for errors: `` `sources.policy.signatures[0]` ``.
    pub rule: String,
    /// The accepted signers. A signature of one of them is enough.
    pub signers: Vec<Signer>,
}

impl RequiredSignature {
    /// The error for a source without signatures.
    pub(crate) fn cannot_be_signed(&self) -> Error {
        let message = format!(
            "{} requires a signature, which only modules in OCI registries can have",
            self.rule
        );
        Error::new(ErrorKind::Denied, message)
            .with_hint("push the module to an OCI registry, and sign it with `cosign sign`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_key_is_an_error() {
        for pem in [
            "",
            "x",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            assert!(PublicKey::from_pem(pem).is_err(), "{pem}");
        }
    }
}
