//! Credentials for registries and servers.
//!
//! Credentials are in Docker configuration files: in Secrets of Kubernetes and on users' machines.
//! A [`Keyring`] has the credentials of one such file, and finds those for a host by the rule of
//! the kubelet. A [`CredentialProvider`] returns the keyrings for a requester, in order.
//!
//! A source gets only the credentials for the server that it sends a request to.

mod docker_config;
mod glob;
mod helper;
mod keyring;
mod omission;
pub(crate) mod preemptive;

use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

pub use docker_config::{DockerConfig, DockerConfigError, Helper};
pub use helper::helper_credential;
pub use keyring::Keyring;
pub(crate) use omission::explain;

use crate::{Digest, Error, ErrorKind};

/// A refresh token, and the login for token servers that do not support OAuth 2.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// The refresh token.
    pub token: SecretString,
    /// The username of the login. May be empty.
    pub username: String,
    /// The password of the login.
    pub password: SecretString,
}

impl From<SecretString> for RefreshToken {
    /// The login has an empty username, and the refresh token as the password, as in containerd.
    fn from(token: SecretString) -> Self {
        Self {
            username: String::new(),
            password: token.clone(),
            token,
        }
    }
}

/// A credential for a server.
#[derive(Clone)]
pub enum Credential {
    /// Username and password (RFC 7617).
    Basic {
        /// The username.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token: `identitytoken` of a Docker configuration. The registry's token server
    /// exchanges it for an access token.
    Identity(RefreshToken),
    /// A bearer token (RFC 6750). It is sent unchanged.
    Bearer(SecretString),
    /// Custom HTTP headers: names and values.
    Headers(Vec<(String, SecretString)>),
    /// A credential that a credential helper failed to return. The text is the end of an error
    /// message: `cannot be obtained: …`.
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
            (Self::Identity(a), Self::Identity(b)) => {
                same(&a.token, &b.token)
                    && a.username == b.username
                    && same(&a.password, &b.password)
            }
            (Self::Bearer(a), Self::Bearer(b)) => same(a, b),
            (Self::Headers(a), Self::Headers(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((m, x), (n, y))| m == n && same(x, y))
            }
            (Self::Unobtainable(a), Self::Unobtainable(b)) => a == b,
            _ => false,
        }
    }
}

impl Credential {
    /// A digest that distinguishes credentials and does not reveal them.
    pub(crate) fn fingerprint(&self) -> String {
        let text = match self {
            Self::Basic { username, password } => {
                format!("basic\0{username}\0{}", password.expose_secret())
            }
            Self::Identity(RefreshToken {
                token,
                username,
                password,
            }) => format!(
                "identity\0{username}\0{}\0{}",
                token.expose_secret(),
                password.expose_secret()
            ),
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

/// A credential with its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The credential.
    pub credential: Credential,
    /// Name of the place where the credential was found, for errors: ``Secret `regcred` ``.
    pub origin: String,
}

impl Candidate {
    /// The error for a credential that cannot be used. `why` follows "the credentials of ORIGIN" in
    /// the message.
    pub(crate) fn unusable(&self, why: &str) -> Error {
        let error = Error::new(
            ErrorKind::InvalidConfig,
            format!("the credentials of {} {why}", self.origin),
        );
        match self.credential {
            Credential::Unobtainable(_) => {
                error.with_hint("repair the credential helper, or remove its entries from `credHelpers`, `credsStore` and `auths` in Docker's config.json")
            }
            _ => error,
        }
    }
}

/// The requester of a module. Part of the cache key of a resolved reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Requester {
    /// The namespace whose Secrets may be used.
    pub namespace: String,
    /// The Secrets that the template names, in its order.
    pub secrets: Vec<String>,
}

/// A provider of credentials.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync + 'static {
    /// The keyrings for a requester, in order of precedence. For each host, only the first keyring
    /// with credentials for it is used.
    async fn keyrings(&self, requester: &Requester) -> Result<Vec<Keyring>, Error>;
}

/// A provider without credentials.
#[async_trait]
impl CredentialProvider for () {
    async fn keyrings(&self, _requester: &Requester) -> Result<Vec<Keyring>, Error> {
        Ok(Vec::new())
    }
}

/// The credentials for `target` (`host[:port]/path`): those of the first keyring with any.
///
/// Returns [`Credential::Unobtainable`] only if no keyring has another credential for the target.
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
    fn an_unobtainable_credential_does_not_hide_others() {
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
