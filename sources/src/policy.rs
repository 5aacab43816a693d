//! What the operator lets run.
//!
//! A pattern is compared with the canonical form of a reference without its fragment, `oci://ghcr.io/acme/resize:1.4.0`; `*` in it stands for any text, slashes
//! too. What a `wkg:` reference leads to is held to the same rules.

use net::matches;
use serde::{Deserialize, Serialize};

use crate::reference::canonical_host;
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
        let name = reference.subject();
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
                    where_digest(reference)
                ),
            ));
        }
        Ok(())
    }
}

/// Where a reference has its digest.
fn where_digest(reference: &Reference) -> &'static str {
    match reference {
        Reference::Oci(_) => "add it to the reference, `…@sha256:…`",
        Reference::Http(_) => "add it to the URL, `…#sha256=…`, or as `http.digest`",
        Reference::Wasmer(_) => "add it as `wapm.digest`, or to the reference, `…#sha256=…`",
        Reference::Bindle(_) => "name the parcel by its SHA-256, `bindle.parcel`",
        Reference::Wkg(_) | Reference::File(_) => {
            "such a reference cannot have one: name the module in its registry"
        }
    }
}

/// What references begin with in their canonical form.
const SCHEMES: [&str; 9] = [
    "oci://",
    "https://",
    "http://",
    "wapm://",
    "wapm:HOST//",
    "bindle://",
    "bindle:HOST//",
    "wkg:",
    "file://",
];

/// Whether a reference can match the pattern. A rule that no reference is written like would silently do nothing.
///
/// # Errors
///
/// Why not.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    let start = pattern.split('*').next().unwrap_or_default();
    let whole = start.len() == pattern.len();
    let fits = |scheme: &&str| match scheme.split_once("HOST//") {
        // Elsewhere than with the operator: a name, and two slashes.
        Some((scheme, _)) => {
            let host = start
                .strip_prefix(scheme)
                .filter(|host| !host.starts_with('/'));
            host.is_some_and(|host| host.contains("//") || (!whole && !host.contains('/')))
        }
        None => start.starts_with(*scheme) || (!whole && scheme.starts_with(start)),
    };
    if !SCHEMES.iter().any(fits) || start.starts_with("wkg:/") {
        return Err(format!(
            "`{pattern}` matches no reference: they begin with {}",
            SCHEMES.join(", ")
        ));
    }
    if pattern.contains('#') {
        return Err(format!(
            "`{pattern}` matches no reference: what stands behind `#` in one is not compared"
        ));
    }
    if let Some(name) = start
        .strip_prefix("oci://")
        .filter(|name| name.contains('/'))
    {
        let canonical = canonical_host(name);
        if canonical != name {
            let rest = &pattern[start.len()..];
            return Err(format!(
                "`{pattern}` matches no reference: this registry is written `oci://{canonical}{rest}`"
            ));
        }
    }
    if let Some(name) = start.strip_prefix("oci://") {
        let (host, _) = name.split_once('/').unwrap_or((name, ""));
        let is_host = host.contains(['.', ':']) || host == "localhost";
        if !is_host && (name.contains('/') || whole) && !host.is_empty() {
            return Err(format!(
                "`{pattern}` matches no reference: those of Docker Hub are written `oci://docker.io/…`"
            ));
        }
        let last = name.rsplit('/').next().unwrap_or_default();
        if whole && !last.contains([':', '@']) {
            return Err(format!(
                "`{pattern}` matches no reference: they have a tag or a digest; write `{pattern}:*`"
            ));
        }
    }
    Ok(())
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
