//! What proves who asks, and for whom it is meant.
//!
//! Credentials come as Docker's configuration files, in Kubernetes' Secrets and on people's machines. A [`Keyring`] holds those of one
//! place and finds the ones for an origin by the kubelet's rule; a [`CredentialProvider`] knows the places, in order. A source gets
//! candidates for the one origin that it talks to, and never sees the others.

pub(crate) mod direct;
mod docker_config;
mod glob;
mod keyring;

use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

pub use docker_config::{DockerConfig, helper_credential};
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
    Missing(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Identity(_) => "Identity",
            Self::Bearer(_) => "Bearer",
            Self::Headers(_) => "Headers",
            Self::Missing(_) => "Missing",
        })
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        match (self, other) {
            (Self::Basic { username: a, password: x }, Self::Basic { username: b, password: y }) => {
                a == b && same(x, y)
            }
            (Self::Identity(a), Self::Identity(b)) | (Self::Bearer(a), Self::Bearer(b)) => same(a, b),
            (Self::Headers(a), Self::Headers(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((m, x), (n, y))| m == n && same(x, y))
            }
            (Self::Missing(a), Self::Missing(b)) => a == b,
            _ => false,
        }
    }
}

impl Credential {
    /// Tells credentials apart without holding them.
    pub(crate) fn fingerprint(&self) -> String {
        let text = match self {
            Self::Basic { username, password } => format!("basic\0{username}\0{}", password.expose_secret()),
            Self::Identity(token) => format!("identity\0\0{}", token.expose_secret()),
            Self::Bearer(token) => format!("bearer\0\0{}", token.expose_secret()),
            Self::Headers(headers) => {
                let headers = headers.iter().map(|(name, value)| format!("\0{name}\0{}", value.expose_secret()));
                format!("headers{}", headers.collect::<String>())
            }
            Self::Missing(why) => format!("missing\0\0{why}"),
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
        Error::new(ErrorKind::InvalidConfig, format!("the credentials of {} {why}", self.origin))
    }
}

/// Who asks for a module. Part of what a resolved reference is remembered by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Asker {
    /// The namespace whose Secrets may be used.
    pub namespace: String,
    /// The Secrets that the template names, in its order.
    pub secrets: Vec<String>,
}

/// Knows where credentials are.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync + 'static {
    /// The keyrings for one who asks; the first that has something for an origin counts.
    async fn keyrings(&self, asker: &Asker) -> Result<Vec<Keyring>, Error>;
}

/// No credentials anywhere.
#[async_trait]
impl CredentialProvider for () {
    async fn keyrings(&self, _asker: &Asker) -> Result<Vec<Keyring>, Error> {
        Ok(Vec::new())
    }
}

/// The candidates for `target` (`host[:port]/path`) from the first keyring that has any.
pub(crate) fn candidates(keyrings: &[Keyring], target: &str) -> Vec<Candidate> {
    keyrings.iter().map(|keyring| keyring.lookup(target)).find(|found| !found.is_empty()).unwrap_or_default()
}
