//! What proves who asks, and for whom it is meant.
//!
//! Credentials come as Docker's configuration files, in Kubernetes' Secrets and on people's machines. A [`Keyring`] holds those of one
//! place and finds the ones for an origin by the kubelet's rule; a [`CredentialProvider`] knows the places, in order. A source gets
//! candidates for the one origin that it talks to, and never sees the others.

mod docker_config;
mod glob;
mod keyring;
pub(crate) mod preemptive;

use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

pub use docker_config::{DockerConfig, Helper, helper_credential};
pub use keyring::Keyring;

use crate::{Digest, Error, ErrorKind};

/// What proves who asks.
#[derive(Clone)]
pub enum Credential {
    /// A user and a password (RFC 7617).
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token, which a registry's token server takes for an access token: Docker's `identitytoken`.
    Identity(SecretString),
    /// A token that is sent as it is (RFC 6750).
    Bearer(SecretString),
    /// Headers of a server's own, by name.
    Headers(Vec<(String, SecretString)>),
    /// One that a program on this machine should give, and why it does not.
    Unobtainable(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Identity(_) => "Identity",
            Self::Bearer(_) => "Bearer",
            Self::Headers(_) => "Headers",
            Self::Unobtainable(_) => "Unobtainable",
        })
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        match (self, other) {
            (
                Self::Basic {
                    username: a,
                    password: x,
                },
                Self::Basic {
                    username: b,
                    password: y,
                },
            ) => a == b && same(x, y),
            (Self::Identity(a), Self::Identity(b)) | (Self::Bearer(a), Self::Bearer(b)) => {
                same(a, b)
            }
            (Self::Headers(a), Self::Headers(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((m, x), (n, y))| m == n && same(x, y))
            }
            (Self::Unobtainable(a), Self::Unobtainable(b)) => a == b,
            _ => false,
        }
    }
}

impl Credential {
    /// Tells credentials apart without holding them.
    pub(crate) fn fingerprint(&self) -> String {
        let text = match self {
            Self::Basic { username, password } => {
                format!("basic\0{username}\0{}", password.expose_secret())
            }
            Self::Identity(token) => format!("identity\0\0{}", token.expose_secret()),
            Self::Bearer(token) => format!("bearer\0\0{}", token.expose_secret()),
            Self::Headers(headers) => {
                let headers = headers
                    .iter()
                    .map(|(name, value)| format!("\0{name}\0{}", value.expose_secret()));
                format!("headers{}", headers.collect::<String>())
            }
            Self::Unobtainable(why) => format!("unobtainable\0\0{why}"),
        };
        Digest::of(text.as_bytes()).hex().to_owned()
    }
}

/// A credential and where it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The credential.
    pub credential: Credential,
    /// Where it was found, for errors: ``Secret `regcred` ``.
    pub origin: String,
}

impl Candidate {
    /// The error for credentials that nobody could send.
    pub(crate) fn unusable(&self, why: &str) -> Error {
        let error = Error::new(
            ErrorKind::InvalidConfig,
            format!("the credentials of {} {why}", self.origin),
        );
        match self.credential {
            Credential::Unobtainable(_) => {
                error.hint("mend it, or take it out of `credHelpers`, `credsStore` and `auths` in Docker's config.json")
            }
            _ => error,
        }
    }
}

/// Who asks for a module. Part of what a resolved reference is remembered by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Requester {
    /// The namespace whose Secrets may be used.
    pub namespace: String,
    /// The Secrets that the template names, in its order.
    pub secrets: Vec<String>,
}

/// Knows where credentials are.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync + 'static {
    /// The keyrings for one who asks; the first that has something for an origin counts.
    async fn keyrings(&self, requester: &Requester) -> Result<Vec<Keyring>, Error>;
}

/// No credentials anywhere.
#[async_trait]
impl CredentialProvider for () {
    async fn keyrings(&self, _asker: &Requester) -> Result<Vec<Keyring>, Error> {
        Ok(Vec::new())
    }
}

/// The candidates for `target` (`host[:port]/path`) from the first keyring that has any. That one cannot be obtained counts where there are no others.
pub(crate) fn candidates(keyrings: &[Keyring], target: &str) -> Vec<Candidate> {
    let mut unobtainable = Vec::new();
    for keyring in keyrings {
        let (without, found): (Vec<_>, Vec<_>) = keyring
            .lookup(target)
            .into_iter()
            .partition(|candidate| matches!(candidate.credential, Credential::Unobtainable(_)));
        if !found.is_empty() {
            return found;
        }
        unobtainable.extend(without);
    }
    unobtainable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_obtained_hides_no_other() {
        let keyring = |credentials: &[Credential]| {
            let mut keyring = Keyring::default();
            for credential in credentials {
                keyring.insert(
                    "h",
                    Candidate {
                        credential: credential.clone(),
                        origin: "here".to_owned(),
                    },
                );
            }
            keyring
        };
        let lost = Credential::Unobtainable("why".to_owned());
        let good = Credential::Bearer("t".into());
        let found = |keyrings: &[Keyring]| {
            candidates(keyrings, "h/a")
                .into_iter()
                .map(|found| found.credential)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found(&[
                keyring(std::slice::from_ref(&lost)),
                keyring(std::slice::from_ref(&good))
            ]),
            std::slice::from_ref(&good)
        );
        assert_eq!(found(&[keyring(&[lost.clone(), good.clone()])]), [good]);
        assert_eq!(
            found(&[Keyring::default(), keyring(std::slice::from_ref(&lost))]),
            [lost]
        );
    }
}
