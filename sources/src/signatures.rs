//! The operator's signature rules, with parsed keys.

use net::matches_any;

use crate::policy::{Identity, SignatureRule};
use crate::signer::{PublicKey, RequiredSignature, Signer};
use crate::source::Context;
use crate::source_table::AnySource;
use crate::{Digest, Error, ErrorKind, Reference, Resolved};

/// The signature rules of the operator.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    required: RequiredSignature,
    /// Patterns of the references that require the signature.
    references: Vec<String>,
    /// Digest of the whole rule. A changed rule has another digest.
    digest: Digest,
}

impl Rule {
    fn new(index: usize, rule: &SignatureRule) -> Result<Self, Error> {
        let name = format!("`sources.policy.signatures[{index}]`");
        let missing = match rule.references.is_empty() {
            true => Some("`references`: patterns of the modules that need the signature"),
            false if rule.keys.is_empty() && rule.keyless.is_none() => {
                Some("`keys` or `keyless`: the signers that the rule accepts")
            }
            false => None,
        };
        if let Some(missing) = missing {
            let message = format!("{name} needs {missing}");
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        let keys = rule.keys.iter();
        let keys = keys.map(|pem| PublicKey::from_pem(pem).map(Signer::Key));
        let signers = keys
            .chain(rule.keyless.iter().map(keyless))
            .collect::<Result<_, _>>()
            .map_err(|error| error.context(&name))?;
        Ok(Self {
            required: RequiredSignature {
                rule: name,
                signers,
            },
            references: rule.references.clone(),
            digest: Digest::of(format!("{rule:?}").as_bytes()),
        })
    }

    fn applies_to(&self, subject: &str) -> bool {
        matches_any(&self.references, subject)
    }
}

#[cfg(feature = "keyless")]
fn keyless(identity: &Identity) -> Result<Signer, Error> {
    if identity.issuer.is_empty() || identity.subject.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "`keyless` needs `issuer` and `subject`",
        ));
    }
    crate::signer::keyless::Signer::new(identity).map(Signer::Keyless)
}

#[cfg(not(feature = "keyless"))]
fn keyless(_: &Identity) -> Result<Signer, Error> {
    let error = Error::new(
        ErrorKind::InvalidConfig,
        "this program was built without keyless signatures",
    );
    Err(error.with_hint(
        "build the program with `--features keyless`, or sign with a key and add its public key to `keys`",
    ))
}

impl Signatures {
    /// Parses the keys of the rules.
    pub(crate) fn new(rules: &[SignatureRule]) -> Result<Self, Error> {
        let rules = rules.iter().enumerate();
        let rules = rules.map(|(index, rule)| Rule::new(index, rule));
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// The rules that apply to the reference or to its origin.
    fn applicable(&self, reference: &Reference, origin: &Reference) -> Vec<&Rule> {
        let subjects = [reference.policy_subject(), origin.policy_subject()];
        let applies = |rule: &&Rule| subjects.iter().any(|subject| rule.applies_to(subject));
        self.rules.iter().filter(applies).collect()
    }

    /// Digest of the rules that apply, and of the keys of the source. `None` without rules and
    /// keys.
    pub(crate) fn digest(&self, resolved: &Resolved, source: &dyn AnySource) -> Option<Digest> {
        let rules = self.applicable(&resolved.reference, &resolved.origin);
        let keys = source.trusted_keys();
        let digests = rules.iter().map(|rule| rule.digest.hex());
        let digests: String = digests.chain(keys.as_ref().map(Digest::hex)).collect();
        (!digests.is_empty()).then(|| Digest::of(digests.as_bytes()))
    }

    /// Whether a stored artifact was verified against the current rules.
    pub(crate) fn is_verified(&self, resolved: &Resolved, source: &dyn AnySource) -> bool {
        let digest = self.digest(resolved, source);
        digest.is_none() || digest == resolved.signed
    }

    /// Fails if a rule applies and the source has no signatures. Called before a request is sent.
    pub(crate) fn check_origin(
        &self,
        reference: &Reference,
        origin: &Reference,
        source: &dyn AnySource,
    ) -> Result<(), Error> {
        match self.applicable(reference, origin).first() {
            Some(rule) if !source.supports_signatures() => Err(rule.required.cannot_be_signed()),
            _ => Ok(()),
        }
    }

    /// Verifies the artifact against all rules that apply. Returns their digest.
    pub(crate) async fn verify(
        &self,
        resolved: &Resolved,
        source: &dyn AnySource,
        context: &Context<'_>,
    ) -> Result<Option<Digest>, Error> {
        let origin = &resolved.origin;
        // Resolving may have found a more exact origin, to which more rules apply.
        self.check_origin(&resolved.reference, origin, source)?;
        for rule in self.applicable(&resolved.reference, origin) {
            source
                .verify_signature(origin, &resolved.artifact, &rule.required, context)
                .await?;
        }
        Ok(self.digest(resolved, source))
    }
}
