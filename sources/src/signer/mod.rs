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

/// A public key, as `cosign` writes it.
#[derive(Clone, Debug)]
pub struct PublicKey(SubjectPublicKeyInfoDer<'static>);

impl PublicKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    ///
    /// It is not one, or not of a kind that is known.
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

    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(&self.0) else {
            return false;
        };
        ALGORITHMS
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    }
}

/// One that an operator trusts.
#[derive(Clone, Debug)]
pub enum Signer {
    /// Whoever has the private key.
    Key(PublicKey),
    /// Somebody that a certificate authority knows.
    #[cfg(feature = "keyless")]
    Keyless(keyless::Signer),
}

impl Signer {
    /// Whether it is a key, and that signed the message.
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
    /// The name of the rule, for errors.
    pub rule: String,
    /// One of these must have signed.
    pub signers: Vec<Signer>,
}

impl RequiredSignature {
    /// The error for content that has no place for a signature.
    pub(crate) fn cannot_be_signed(&self) -> Error {
        let message = format!(
            "{} requires a signature, which only modules in OCI registries can have",
            self.rule
        );
        Error::new(ErrorKind::Denied, message).hint("publish the module in a registry, and sign it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key() {
        for pem in [
            "",
            "x",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            assert!(PublicKey::from_pem(pem).is_err(), "{pem}");
        }
    }
}
