//! Which modules must be signed, and by whom.

use net::matches;

use crate::bindle::TrustedKey;
use crate::oci::OciSource;
use crate::policy::{Identity, SignatureRule};
use crate::signer::{PublicKey, Signer};
use crate::source::Context;
use crate::{Digest, Error, ErrorKind, Reference, Resolved};

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
    signers: Vec<Signer>,
    /// Of all that the rule says.
    digest: Digest,
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
    Err(error
        .hint("build it with `--features keyless`, or sign with a key and list that under `keys`"))
}

impl Signatures {
    pub(crate) fn new(rules: &[SignatureRule], bindle_keys: &[TrustedKey]) -> Result<Self, Error> {
        let rule = |(index, rule): (usize, &SignatureRule)| {
            let name = format!("`sources.policy.signatures[{index}]`");
            if rule.references.is_empty() || (rule.keys.is_empty() && rule.keyless.is_none()) {
                let message = format!("{name} needs `references`, and `keys` or `keyless`");
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
            let keys = rule
                .keys
                .iter()
                .map(|pem| PublicKey::from_pem(pem).map(Signer::Key));
            let signers = keys
                .chain(rule.keyless.iter().map(keyless))
                .collect::<Result<_, _>>();
            Ok(Rule {
                references: rule.references.clone(),
                signers: signers.map_err(|error| error.context(&name))?,
                digest: Digest::of(format!("{rule:?}").as_bytes()),
                name,
            })
        };
        let bindle =
            (!bindle_keys.is_empty()).then(|| Digest::of(format!("{bindle_keys:?}").as_bytes()));
        Ok(Self {
            rules: rules
                .iter()
                .enumerate()
                .map(rule)
                .collect::<Result<_, _>>()?,
            bindle,
        })
    }

    fn about(&self, reference: &Reference, origin: &Reference) -> Vec<&Rule> {
        let names = [reference, origin].map(Reference::subject);
        let is_about = |rule: &&Rule| {
            names
                .iter()
                .any(|name| rule.references.iter().any(|pattern| matches(pattern, name)))
        };
        self.rules.iter().filter(is_about).collect()
    }

    /// What stands for the rules about it; `None` where there are none.
    pub(crate) fn digest(&self, resolved: &Resolved) -> Option<Digest> {
        let rules = self.about(&resolved.reference, &resolved.origin);
        let bindle = self
            .bindle
            .as_ref()
            .filter(|_| matches!(resolved.origin, Reference::Bindle(_)));
        let digests = rules
            .iter()
            .map(|rule| rule.digest.hex())
            .chain(bindle.map(Digest::hex))
            .collect::<String>();
        (!digests.is_empty()).then(|| Digest::of(digests.as_bytes()))
    }

    /// Whether what was stored was checked by the rules of today.
    pub(crate) fn held(&self, resolved: &Resolved) -> bool {
        let wanted = self.digest(resolved);
        wanted.is_none() || wanted == resolved.signed
    }

    /// Refuses what would need a signature and cannot have one, before anything is asked for.
    pub(crate) fn check_origin(
        &self,
        reference: &Reference,
        origin: &Reference,
    ) -> Result<(), Error> {
        match (self.about(reference, origin).first(), origin) {
            (None, _) | (_, Reference::Oci(_)) => Ok(()),
            (Some(rule), _) => {
                let message = format!(
                    "{} asks for a signature, which only modules in OCI registries can have",
                    rule.name
                );
                Err(Error::new(ErrorKind::Denied, message)
                    .hint("publish the module in a registry, and sign it"))
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
        let Reference::Oci(origin) = &resolved.origin else {
            return Ok(self.digest(resolved));
        };
        for rule in self.about(&resolved.reference, &resolved.origin) {
            oci.check_signature(
                origin,
                &resolved.artifact,
                &rule.signers,
                &rule.name,
                context,
            )
            .await?;
        }
        Ok(self.digest(resolved))
    }
}
