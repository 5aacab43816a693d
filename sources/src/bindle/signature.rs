//! Signatures of invoices (<https://github.com/deislabs/bindle/blob/main/docs/signing-spec.md>).
//!
//! What is signed is who signs, the bindle's name and version, the role, and every parcel's digest: not what the labels say beside it. So a
//! signature vouches for all parcels, and not for which of them is the module.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::invoice::{Invoice, Signature};
use crate::{Error, ErrorKind};

/// Roles whose word counts: a host only says that it has it.
const AUTHORITIES: [&str; 2] = ["creator", "approver"];

/// A key that the operator trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrustedKey {
    /// Whose it is, for people.
    pub label: String,
    /// The public Ed25519 key, base64.
    pub key: String,
    /// In which roles it counts: `creator`, `approver`, or both if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// Why a key of the configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustedKeyError {
    /// The role does not exist.
    #[error("`{0}` is not one of `creator`, `approver`")]
    Role(String),
    /// The text is not an Ed25519 key.
    #[error("the key is not 32 bytes in base64")]
    Key,
}

impl TrustedKey {
    /// The bytes of the key.
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

    fn counts_for(&self, role: &str) -> bool {
        AUTHORITIES.contains(&role)
            && (self.roles.is_empty() || self.roles.iter().any(|counts| counts == role))
    }
}

/// Checks that the creator or an approver whose key is trusted signed the invoice, and that no signature of a trusted key is wrong.
/// Without keys, nothing is asked for.
pub(super) fn check(invoice: &Invoice, keys: &[TrustedKey]) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut vouched = false;
    for signature in invoice.signature.iter().flatten() {
        let role = signature.role.to_ascii_lowercase();
        let key = decode(&signature.key);
        let trusted = keys
            .iter()
            .find(|trusted| trusted.counts_for(&role) && trusted.bytes().ok() == key);
        let Some(trusted) = trusted else { continue };
        if !is_valid(
            invoice,
            signature,
            &role,
            &trusted.bytes().unwrap_or_default(),
        ) {
            let message = format!(
                "the bindle's signature with the key of `{}` is wrong",
                trusted.label
            );
            return Err(Error::new(ErrorKind::Denied, message).hint(
                "the bindle, or something before it, was changed: do not use it until you know why",
            ));
        }
        vouched = true;
    }
    if vouched {
        return Ok(());
    }
    let message = "no creator or approver of the bindle whose key is trusted signed it";
    Err(Error::new(ErrorKind::Denied, message)
        .hint("the operator lists the keys that count under `sources.bindle.keys`"))
}

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

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the reference implementation.
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
    fn a_known_answer() {
        let invoice: Invoice = toml::from_str(SIGNED).unwrap();
        assert!(check(&invoice, &[]).is_ok());
        assert!(
            check(&invoice, &trusted(&[])).is_ok()
                && check(&invoice, &trusted(&["creator"])).is_ok()
        );
        assert!(
            check(&invoice, &trusted(&["approver"])).is_err(),
            "the role counts"
        );
        let other = TrustedKey {
            key: STANDARD.encode([7; 32]),
            ..TrustedKey::default()
        };
        assert!(check(&invoice, &[other]).is_err());
    }

    #[test]
    fn what_was_changed_is_refused() {
        for (what, with) in [
            ("23f310", "23f311"),
            ("1.0.0\"\n        [[p", "1.0.1\"\n        [[p"),
            ("Starfleet C", "Starfleet D"),
        ] {
            let changed = SIGNED.replace(what, with);
            assert_ne!(changed, SIGNED);
            let error = check(&toml::from_str(&changed).unwrap(), &trusted(&[])).unwrap_err();
            assert!(error.to_string().contains("is wrong"), "{error}");
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
