//! Signatures of invoices (<https://github.com/deislabs/bindle/blob/main/docs/signing-spec.md>).
//!
//! A signature covers the signer's name and role, the name and version of the bindle, and the
//! digest of each parcel. It does not cover the other fields of the labels, such as names and
//! features. So it proves the content of all parcels, but not which parcel is the module.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::invoice::{Invoice, Signature};
use crate::{Error, ErrorKind};

/// The roles with trusted signatures. A `host` or `proxy` only signs that it serves the bindle.
const AUTHORITIES: [&str; 2] = ["creator", "approver"];

/// A key that the operator trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrustedKey {
    /// Name of the key, for errors.
    pub label: String,
    /// The public Ed25519 key in base64.
    pub key: String,
    /// Roles in which the key is trusted: `creator`, `approver`. An empty list is both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// The error for an invalid key in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustedKeyError {
    /// The role is not one of the trusted roles.
    #[error("`{0}` is not one of `creator`, `approver`")]
    Role(String),
    /// The text is not an Ed25519 key.
    #[error("the key is not 32 bytes in base64")]
    Key,
}

impl TrustedKey {
    /// The 32 bytes of the key.
    ///
    /// # Errors
    ///
    /// The key or one of the roles is invalid.
    pub fn bytes(&self) -> Result<Vec<u8>, TrustedKeyError> {
        let unknown = self
            .roles
            .iter()
            .find(|role| !AUTHORITIES.contains(&role.as_str()));
        if let Some(role) = unknown {
            return Err(TrustedKeyError::Role(role.clone()));
        }
        decode(&self.key)
            .filter(|key| key.len() == 32)
            .ok_or(TrustedKeyError::Key)
    }

    fn is_trusted_as(&self, role: &str) -> bool {
        AUTHORITIES.contains(&role)
            && (self.roles.is_empty() || self.roles.iter().any(|trusted| trusted == role))
    }
}

/// Verifies the signatures of the invoice with the trusted keys. Without keys, nothing is verified.
///
/// # Errors
///
/// - No creator or approver with a trusted key signed the invoice.
/// - A signature with a trusted key is invalid.
pub(super) fn check(invoice: &Invoice, keys: &[TrustedKey]) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut is_signed = false;
    for signature in invoice.signature.iter().flatten() {
        let role = signature.role.to_ascii_lowercase();
        let key = decode(&signature.key);
        let trusted = keys
            .iter()
            .find(|trusted| trusted.is_trusted_as(&role) && trusted.bytes().ok() == key);
        let Some(trusted) = trusted else { continue };
        if !is_valid(
            invoice,
            signature,
            &role,
            &trusted.bytes().unwrap_or_default(),
        ) {
            let message = format!(
                "the bindle's signature with the key of `{}` is invalid",
                trusted.label
            );
            return Err(Error::new(ErrorKind::Denied, message).with_hint(
                "the invoice was changed after it was signed: do not use the bindle until you know why",
            ));
        }
        is_signed = true;
    }
    if is_signed {
        return Ok(());
    }
    let message = "no creator or approver with a trusted key signed the bindle";
    Err(Error::new(ErrorKind::Denied, message)
        .with_hint("ask the operator to add the signer's key under `sources.bindle.keys`"))
}

/// Whether `key` made the signature of this invoice.
fn is_valid(invoice: &Invoice, signature: &Signature, role: &str, key: &[u8]) -> bool {
    let parcels = invoice
        .parcel
        .iter()
        .flatten()
        .map(|parcel| parcel.label.sha256.as_str());
    let lines = [
        signature.by.as_str(),
        &invoice.bindle.name,
        &invoice.bindle.version,
        role,
        "~",
    ];
    let text = lines
        .into_iter()
        .chain(parcels)
        .collect::<Vec<_>>()
        .join("\n");
    let signed = decode(&signature.signature);
    signed.is_some_and(|signed| {
        UnparsedPublicKey::new(&ED25519, key)
            .verify(text.as_bytes(), &signed)
            .is_ok()
    })
}

/// Decodes base64 with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An invoice that the reference implementation signed.
    const SIGNED: &str = r#"
        bindleVersion = "1.0.0"
        [bindle]
        name = "enterprise.com/warpcore"
        version = "1.0.0"
        [[parcel]]
        [parcel.label]
        sha256 = "23f310b54076878fd4c36f0c60ec92011a8b406349b98dd37d08577d17397de5"
        mediaType = "text/plain"
        name = "isolinear_chip.txt"
        size = 9
        [[signature]]
        by = "Starfleet Command <starfleet@ufp.com>"
        signature = "1oKW+2RXsE/lSXy3y+0MKKZDhnPModgTxfKuMSMMnVEZlgENIE9qOMTUrQga0QxSiAZiFH15fYkcveC8up8FDA=="
        key = "Kcs1TSFDkN+dED0Y6Np0fPBqmvUz0EAULIlUsnlU1sw="
        role = "creator"
        at = 1611960337
    "#;

    fn trusted(roles: &[&str]) -> Vec<TrustedKey> {
        let key = "Kcs1TSFDkN+dED0Y6Np0fPBqmvUz0EAULIlUsnlU1sw";
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        vec![TrustedKey {
            label: "starfleet".to_owned(),
            key: key.to_owned(),
            roles,
        }]
    }

    #[test]
    fn a_signature_of_the_reference_implementation_is_valid_for_a_trusted_key() {
        let invoice: Invoice = toml::from_str(SIGNED).unwrap();
        assert!(check(&invoice, &[]).is_ok());
        assert!(
            check(&invoice, &trusted(&[])).is_ok()
                && check(&invoice, &trusted(&["creator"])).is_ok()
        );
        assert!(
            check(&invoice, &trusted(&["approver"])).is_err(),
            "the key is not trusted in this role"
        );
        let other = TrustedKey {
            key: STANDARD.encode([7; 32]),
            ..TrustedKey::default()
        };
        assert!(check(&invoice, &[other]).is_err());
    }

    #[test]
    fn changed_and_unsigned_invoices_are_rejected() {
        for (what, with) in [
            ("23f310", "23f311"),
            ("1.0.0\"\n        [[p", "1.0.1\"\n        [[p"),
            ("Starfleet C", "Starfleet D"),
        ] {
            let changed = SIGNED.replace(what, with);
            assert_ne!(changed, SIGNED);
            let error = check(&toml::from_str(&changed).unwrap(), &trusted(&[])).unwrap_err();
            assert!(error.to_string().contains("is invalid"), "{error}");
        }
        let unsigned: Invoice =
            toml::from_str(SIGNED.split("[[signature]]").next().unwrap()).unwrap();
        assert!(
            check(&unsigned, &trusted(&[]))
                .unwrap_err()
                .to_string()
                .contains("no creator or approver")
        );
    }
}
