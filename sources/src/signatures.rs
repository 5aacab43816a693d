//! Which modules must be signed, and with which keys.

use serde::{Deserialize, Serialize};

use crate::config::Bindle;
use crate::oci::OciSource;
use crate::oci::cosign::PublicKey;
use crate::policy::matches;
use crate::source::Context;
use crate::{Digest, Error, ErrorKind, Reference, Resolved};

/// `sources.policy.signatures[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SignatureRule {
    /// Patterns of the references that it is about.
    pub references: Vec<String>,
    /// Public keys in PEM: one of them must have signed, with `cosign`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Who must have signed without a key of their own. Not supported by this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Identity>,
}

/// `sources.policy.signatures[].keyless`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Identity {
    /// The issuer of the identity.
    pub issuer: String,
    /// The identity.
    pub subject: String,
}

/// The rules, with their keys read.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    rules: Vec<Rule>,
    /// Of what bindles are checked by, where keys are listed.
    bindle: Option<Digest>,
}

#[derive(Debug)]
struct Rule {
    /// For errors.
    name: String,
    references: Vec<String>,
    keys: Vec<PublicKey>,
    /// Of all that the rule says.
    digest: Digest,
}

impl Signatures {
    pub(crate) fn new(rules: &[SignatureRule], bindle: &Bindle) -> Result<Self, Error> {
        let rule = |(index, rule): (usize, &SignatureRule)| {
            let name = format!("`sources.policy.signatures[{index}]`");
            if rule.keyless.is_some() {
                let message = format!("{name}: keyless signatures are not supported by this version");
                return Err(
                    Error::new(ErrorKind::InvalidConfig, message).hint("sign with a key, and list it under `keys`")
                );
            }
            if rule.keys.is_empty() || rule.references.is_empty() {
                return Err(Error::new(ErrorKind::InvalidConfig, format!("{name} needs `references` and `keys`")));
            }
            let keys = rule.keys.iter().map(|pem| PublicKey::from_pem(pem).map_err(|error| error.context(&name)));
            Ok(Rule {
                references: rule.references.clone(),
                keys: keys.collect::<Result<_, _>>()?,
                digest: Digest::of(format!("{rule:?}").as_bytes()),
                name,
            })
        };
        let bindle = (!bindle.keys.is_empty()).then(|| Digest::of(format!("{bindle:?}").as_bytes()));
        Ok(Self { rules: rules.iter().enumerate().map(rule).collect::<Result<_, _>>()?, bindle })
    }

    fn about(&self, reference: &Reference, origin: &Reference) -> Vec<&Rule> {
        let names = [reference, origin].map(Reference::subject);
        let is_about =
            |rule: &&Rule| names.iter().any(|name| rule.references.iter().any(|pattern| matches(pattern, name)));
        self.rules.iter().filter(is_about).collect()
    }

    /// What stands for the rules about it; `None` where there are none.
    pub(crate) fn digest(&self, resolved: &Resolved) -> Option<Digest> {
        let rules = self.about(&resolved.reference, &resolved.origin);
        let bindle = self.bindle.as_ref().filter(|_| matches!(resolved.origin, Reference::Bindle(_)));
        let digests = rules.iter().map(|rule| rule.digest.hex()).chain(bindle.map(Digest::hex)).collect::<String>();
        (!digests.is_empty()).then(|| Digest::of(digests.as_bytes()))
    }

    /// Whether what was stored was checked by the rules of today.
    pub(crate) fn held(&self, resolved: &Resolved) -> bool {
        let wanted = self.digest(resolved);
        wanted.is_none() || wanted == resolved.signed
    }

    /// Refuses what would need a signature and cannot have one, before anything is asked for.
    pub(crate) fn check_origin(&self, reference: &Reference, origin: &Reference) -> Result<(), Error> {
        match (self.about(reference, origin).first(), origin) {
            (None, _) | (_, Reference::Oci(_)) => Ok(()),
            (Some(rule), _) => {
                let message =
                    format!("{} asks for a signature, which only modules in OCI registries can have", rule.name);
                Err(Error::new(ErrorKind::Denied, message).hint("publish the module in a registry, and sign it"))
            }
        }
    }

    /// Checks the signatures that are asked for: all rules about it must hold.
    pub(crate) async fn check(
        &self,
        resolved: &Resolved,
        oci: &OciSource,
        context: &Context<'_>,
    ) -> Result<Option<Digest>, Error> {
        // What a name led to is held to the rules about it too.
        self.check_origin(&resolved.reference, &resolved.origin)?;
        let Reference::Oci(origin) = &resolved.origin else { return Ok(self.digest(resolved)) };
        for rule in self.about(&resolved.reference, &resolved.origin) {
            oci.check_signature(origin, &resolved.artifact, &rule.keys, &rule.name, context).await?;
        }
        Ok(self.digest(resolved))
    }
}
