//! The operator's policy: the modules that may run.
//!
//! A pattern is matched against the canonical form of a reference without its fragment, for example
//! `oci://ghcr.io/acme/resize:1.4.0`. `*` in a pattern matches any text, including slashes.
//!
//! A `wkg:` reference is located in an OCI registry. The rules apply to both references.
//!
//! A namespace can have rules of its own. A module must pass the rules for all namespaces, and the
//! rules of its namespace.

use net::{matches_any, split_port};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Reference};

/// The operator's rules. Without rules, every module may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Patterns of the allowed references. An empty list allows all references.
    pub allow: Vec<String>,
    /// Patterns of the denied references. `deny` overrides `allow`.
    pub deny: Vec<String>,
    /// Patterns of the references that must name a digest.
    pub require_digest: Vec<String>,
    /// Rules for the references that must be signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<SignatureRule>,
    /// Patterns of the hosts that requests may be sent to. An empty list allows all hosts. The HTTP
    /// client enforces this rule.
    pub hosts: Vec<String>,
}

/// `sources.policy.signatures[]`: one rule for signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SignatureRule {
    /// Patterns of the references that the rule applies to.
    pub references: Vec<String>,
    /// Public keys in PEM. A `cosign` signature with one of the keys is enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// An identity of keyless signing. Its signature is enough, as an alternative to `keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Identity>,
}

/// `sources.policy.signatures[].keyless`: an identity of Sigstore's keyless signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Identity {
    /// URL of the OIDC issuer of the identity, such as
    /// `https://token.actions.githubusercontent.com`.
    pub issuer: String,
    /// Pattern of the identity: an email address or a URL. `*` matches any text.
    pub subject: String,
    /// Text of a `trusted_root.json`: the trusted certificate authorities and logs. The default is
    /// the trust root of Sigstore's public services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<String>,
}

/// The operator's rules for the modules of some namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespacePolicy {
    /// Patterns of the names of the namespaces.
    pub names: Vec<String>,
    /// Which modules may run.
    pub modules: ModuleRules,
    /// Patterns of the servers of modules. An empty list allows all servers.
    pub hosts: Vec<String>,
}

/// Rules for references, by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ModuleRules {
    /// Patterns of the allowed references. An empty list allows all references.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Patterns of the denied references. `deny` overrides `allow`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Patterns of the references that must name a digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require_digest: Vec<String>,
}

/// The default port of HTTPS.
const HTTPS: u16 = 443;

/// The rules of the operator: for all namespaces, and for single ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    all: ModuleRules,
    /// The first entry that matches a namespace is used.
    namespaces: Vec<NamespacePolicy>,
}

impl Rules {
    pub(crate) fn new(policy: &Policy, namespaces: &[NamespacePolicy]) -> Self {
        let Policy {
            allow,
            deny,
            require_digest,
            ..
        } = policy.clone();
        Self {
            all: ModuleRules {
                allow,
                deny,
                require_digest,
            },
            namespaces: namespaces.to_vec(),
        }
    }

    /// Checks the reference of a module for a workflow in this namespace. Without a namespace, only
    /// the rules for all namespaces are used: the operator's own commands have none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`]: a rule forbids the reference, or requires a digest in it.
    pub(crate) fn check(&self, reference: &Reference, namespace: &str) -> Result<(), Error> {
        self.all.check(reference, "`sources.policy`")?;
        match self.of(namespace) {
            Some(own) => {
                let place = format!("`modules`, in the entry of `namespaces` for `{namespace}`");
                own.modules.check(reference, &place)
            }
            None => Ok(()),
        }
    }

    /// Checks the server of a module, `host` or `host:port`, for a workflow in this namespace.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`]: the server is not in the list of the namespace.
    pub(crate) fn check_server(&self, server: &str, namespace: &str) -> Result<(), Error> {
        let Some(own) = self.of(namespace).filter(|own| !own.hosts.is_empty()) else {
            return Ok(());
        };
        let (host, port) = split_port(server);
        let with_port = match port {
            "" => format!("{host}:{HTTPS}"),
            port => format!("{host}:{port}"),
        };
        if matches_any(&own.hosts, host) || matches_any(&own.hosts, &with_port) {
            return Ok(());
        }
        let message = format!("the operator does not allow modules from `{server}`");
        let hint = format!(
            "ask the operator to list the host under `hosts`, in the entry of `namespaces` for `{namespace}`"
        );
        Err(Error::new(ErrorKind::Denied, message).with_hint(hint))
    }

    /// The rules of a namespace.
    fn of(&self, namespace: &str) -> Option<&NamespacePolicy> {
        let mut namespaces = self.namespaces.iter();
        namespaces.find(|own| !namespace.is_empty() && matches_any(&own.names, namespace))
    }
}

impl ModuleRules {
    /// Checks the reference. `place` is the key of the rules.
    fn check(&self, reference: &Reference, place: &str) -> Result<(), Error> {
        let name = reference.policy_subject();
        let is_allowed = self.allow.is_empty() || matches_any(&self.allow, &name);
        if matches_any(&self.deny, &name) || !is_allowed {
            let message = "the operator's policy does not allow this module";
            let hint = format!("ask the operator to check the rules under {place}");
            return Err(Error::new(ErrorKind::Denied, message).with_hint(hint));
        }
        if reference.pinned().is_none() && matches_any(&self.require_digest, &name) {
            let message = "the operator's policy requires a digest for this module";
            let hint = format!(
                "{}; to get the digest, run `wasm-workflow-executor inspect` on a machine without this policy",
                reference.how_to_pin()
            );
            return Err(Error::new(ErrorKind::Denied, message).with_hint(hint));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(patterns: &[&str]) -> Vec<String> {
        patterns
            .iter()
            .map(|pattern| (*pattern).to_owned())
            .collect()
    }

    fn is_allowed(policy: &Policy, reference: &str) -> bool {
        let rules = Rules::new(policy, &[]);
        rules.check(&reference.parse().unwrap(), "default").is_ok()
    }

    #[test]
    fn deny_overrides_allow_and_a_digest_may_be_required() {
        let digest = crate::Digest::of(b"");
        let policy = Policy {
            allow: patterns(&["oci://ghcr.io/*", "oci://docker.io/library/*"]),
            deny: patterns(&["*/secret*"]),
            require_digest: patterns(&["oci://ghcr.io/*"]),
            ..Policy::default()
        };
        let allowed = |text: &str| is_allowed(&policy, text);
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
    }

    #[test]
    fn equivalent_urls_match_the_same_pattern() {
        let digest = crate::Digest::of(b"");
        let policy = Policy {
            deny: patterns(&["https://h/acme/*"]),
            ..Policy::default()
        };
        let allowed = |path: &str| {
            is_allowed(
                &policy,
                &format!("https://h/{path}#sha256={}", digest.hex()),
            )
        };
        for path in ["acme/x", "%61cme/x", "ac%6De/x"] {
            assert!(!allowed(path), "{path}");
        }
        assert!(allowed("a%2Fcme/x%"));
    }

    #[test]
    fn a_pattern_without_a_server_matches_the_default_server_only() {
        let policy = Policy {
            allow: patterns(&["wapm://acme/*", "bindle:b.example:8080//acme/*"]),
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
            assert_eq!(is_allowed(&policy, text), expected, "{text}");
        }
    }

    #[test]
    fn rules_match_every_spelling_of_an_ipv6_address() {
        let policy = Policy {
            allow: patterns(&[
                "oci://[::1]:5000/acme/*",
                "wapm:[::1]:8080//acme/*",
                "https://[::1]/*",
            ]),
            ..Policy::default()
        };
        for (text, expected) in [
            ("[::1]:5000/acme/x:1", true),
            ("oci://[0:0:0:0:0:0:0:1]:5000/acme/x:1", true),
            ("[::1]:5001/acme/x:1", false),
            ("[::2]:5000/acme/x:1", false),
            ("wapm://acme/x@1.0.0#registry=%5B0%3A%3A1%5D%3A8080", true),
            ("https://[0::1]/m.wasm", true),
        ] {
            assert_eq!(is_allowed(&policy, text), expected, "{text}");
        }
    }

    #[test]
    fn without_rules_every_reference_is_allowed() {
        assert!(is_allowed(&Policy::default(), "quay.io/a:1"));
    }

    #[test]
    fn the_first_entry_that_matches_a_namespace_adds_its_rules() {
        let entry = |names: &[&str], deny: &[&str], hosts: &[&str]| NamespacePolicy {
            names: patterns(names),
            modules: ModuleRules {
                deny: patterns(deny),
                ..ModuleRules::default()
            },
            hosts: patterns(hosts),
        };
        let all = Policy {
            deny: patterns(&["oci://evil.example/*"]),
            ..Policy::default()
        };
        let namespaces = [
            entry(&["team-a", "team-b-*"], &[], &["ghcr.io", "r.example:443"]),
            entry(&["team-*"], &["*/secret:*"], &[]),
            entry(&["*"], &["*"], &[]),
        ];
        let rules = Rules::new(&all, &namespaces);
        for (namespace, reference, expected) in [
            ("team-a", "ghcr.io/acme/secret:1", true),
            ("team-c", "quay.io/a:1", true),
            ("team-c", "quay.io/secret:1", false),
            ("team-c", "evil.example/a:1", false),
            ("other", "ghcr.io/a:1", false),
            ("", "ghcr.io/a:1", true),
        ] {
            let checked = rules.check(&reference.parse().unwrap(), namespace);
            assert_eq!(checked.is_ok(), expected, "{namespace} {reference}");
        }
        for (namespace, server, expected) in [
            ("team-a", "ghcr.io", true),
            ("team-a", "ghcr.io:5000", true),
            ("team-b-1", "r.example", true),
            ("team-b-1", "r.example:5001", false),
            ("team-a", "quay.io", false),
            ("team-c", "quay.io", true),
        ] {
            let checked = rules.check_server(server, namespace);
            assert_eq!(checked.is_ok(), expected, "{namespace} {server}");
        }
        let refused = rules.check(&"ghcr.io/a:1".parse().unwrap(), "other");
        let hint = refused.unwrap_err().hint().unwrap_or_default().to_owned();
        assert!(
            hint.ends_with("in the entry of `namespaces` for `other`"),
            "{hint}"
        );
    }
}
