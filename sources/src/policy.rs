//! What the operator lets run.
//!
//! A pattern is compared with the canonical form of a reference without its fragment, `oci://ghcr.io/acme/resize:1.4.0`; `*` in it stands for any text, slashes
//! too. What a `wkg:` reference leads to is held to the same rules.

use net::matches;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Reference};

/// The operator's rules. Without any, everything may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Only references that match one of these; all, if there are none.
    pub allow: Vec<String>,
    /// None that match one of these, whatever `allow` says.
    pub deny: Vec<String>,
    /// Those that match one of these must name a digest.
    pub require_digest: Vec<String>,
    /// Which must be signed, and with which keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<SignatureRule>,
    /// The only hosts that requests may go to, as the transport holds them; all, if there are none.
    pub hosts: Vec<String>,
}

/// `sources.policy.signatures[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SignatureRule {
    /// Patterns of the references that it is about.
    pub references: Vec<String>,
    /// Public keys in PEM: one of them must have signed, with `cosign`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Who must have signed, where nobody with a key has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Identity>,
}

/// `sources.policy.signatures[].keyless`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Identity {
    /// Who knows the identity: the URL of an issuer of OIDC tokens, such as `https://token.actions.githubusercontent.com`.
    pub issuer: String,
    /// The identity, an address or a URL; `*` stands for any text.
    pub subject: String,
    /// The text of a `trusted_root.json`: the certificate authorities and logs that count. Without one, those of Sigstore's public services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<String>,
}

impl Policy {
    /// Whether the reference may run.
    pub fn check(&self, reference: &Reference) -> Result<(), Error> {
        let name = reference.policy_subject();
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, &name));
        if any(&self.deny) || !(self.allow.is_empty() || any(&self.allow)) {
            return Err(Error::new(
                ErrorKind::Denied,
                "the operator's policy does not allow this module",
            )
            .hint("the operator decides that with `sources.policy`"));
        }
        if reference.pinned().is_none() && any(&self.require_digest) {
            return Err(Error::new(ErrorKind::Denied, "the operator's policy requires a digest for this module").hint(
                format!(
                    "{}; where no such policy is, `wasm-workflow-executor inspect` shows the reference with it",
                    reference.how_to_pin()
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_held() {
        let digest = crate::Digest::of(b"");
        let rules = |patterns: &[&str]| {
            patterns
                .iter()
                .map(|pattern| (*pattern).to_owned())
                .collect::<Vec<_>>()
        };
        let policy = Policy {
            allow: rules(&["oci://ghcr.io/*", "oci://docker.io/library/*"]),
            deny: rules(&["*/secret*"]),
            require_digest: rules(&["oci://ghcr.io/*"]),
            ..Policy::default()
        };
        let allowed = |text: &str| policy.check(&text.parse().unwrap()).is_ok();
        assert!(allowed(&format!("oci://ghcr.io/acme/a@{digest}")) && allowed("library/x:1"));
        assert!(!allowed("ghcr.io/acme/a:1"), "no digest");
        assert!(!allowed(&format!("ghcr.io/acme/secret@{digest}")) && !allowed("quay.io/a:1"));
        for text in [
            "GHCR.io/acme/secret@",
            "ghcr.io:443/acme/secret@",
            "ghcr.io:0443/acme/secret@",
            "ghcr.io/acme/secret@",
        ] {
            assert!(
                !allowed(&format!("{text}{digest}"))
                    && !allowed(&format!("{text}{digest}#layer=0")),
                "{text}"
            );
        }
        assert!(
            allowed("registry-1.docker.io/library/x:1")
                && !allowed("registry-1.docker.io/other/x:1")
        );
        let policy = Policy {
            deny: rules(&["https://h/acme/*"]),
            ..Policy::default()
        };
        for path in ["acme/x", "%61cme/x", "ac%6De/x"] {
            let reference = format!("https://h/{path}#sha256={}", digest.hex())
                .parse()
                .unwrap();
            assert!(policy.check(&reference).is_err(), "{path}");
        }
        assert!(
            policy
                .check(
                    &format!("https://h/a%2Fcme/x%#sha256={}", digest.hex())
                        .parse()
                        .unwrap()
                )
                .is_ok()
        );
        let policy = Policy {
            allow: rules(&["wapm://acme/*", "bindle:b.example:8080//acme/*"]),
            ..Policy::default()
        };
        for (text, expected) in [
            ("wapm://acme/x@1.0.0", true),
            ("wapm://acme/x@1.0.0#registry=evil.example", false),
            ("wapm://acme/x#registry=https%3A%2F%2Facme", false),
            ("bindle://acme/x/1.0.0", false),
            (
                "bindle://acme/x/1.0.0#server=http%3A%2F%2Fb.example%3A8080%2Fv1",
                true,
            ),
        ] {
            assert_eq!(
                policy.check(&text.parse().unwrap()).is_ok(),
                expected,
                "{text}"
            );
        }
        assert!(
            Policy::default()
                .check(&"quay.io/a:1".parse().unwrap())
                .is_ok()
        );
    }
}
