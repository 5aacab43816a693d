//! The operator's credentials.

use std::env;

use secrecy::SecretString;
use sources::credentials::{Candidate, Credential, DockerConfig, Keyring};
use sources::{Error, ErrorKind};

use crate::config::{HostCredential, SecretSource};

const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// The credentials in the environment variable `DOCKER_AUTH_CONFIG`. An empty variable is ignored.
pub(super) fn from_environment() -> Result<Option<Keyring>, Error> {
    let Some(text) = env::var(AUTH_CONFIG)
        .ok()
        .filter(|text| !text.trim().is_empty())
    else {
        return Ok(None);
    };
    let config = DockerConfig::parse(text.as_bytes()).map_err(|error| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("{AUTH_CONFIG} cannot be used: {error}"),
        )
    })?;
    Ok(Some(Keyring::of(config, AUTH_CONFIG)))
}

/// The credentials under `sources.credentials`.
pub(super) fn keyring(configured: &[HostCredential]) -> Result<Keyring, Error> {
    let mut keyring = Keyring::default();
    for (index, entry) in configured.iter().enumerate() {
        let origin = format!("`sources.credentials[{index}]`");
        let credential = match (&entry.username, &entry.password_from, &entry.token_from) {
            (Some(username), Some(password), None) => Credential::Basic {
                username: username.clone(),
                password: read(password, index, "passwordFrom")?,
            },
            (None, None, Some(token)) => Credential::Bearer(read(token, index, "tokenFrom")?),
            _ => {
                let message =
                    format!("{origin} needs `username` and `passwordFrom`, or `tokenFrom` alone");
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
        };
        keyring.insert(&entry.host, Candidate { credential, origin });
    }
    Ok(keyring)
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("there is no such environment variable")]
    NotPresent,
    // The text of std's error contains the value.
    #[error("the environment variable is not UTF-8")]
    NotUnicode,
    #[error("the file cannot be read: {0}")]
    File(#[from] std::io::Error),
}

/// Reads the secret that `key` of the entry `index` names.
fn read(source: &SecretSource, index: usize, key: &str) -> Result<SecretString, Error> {
    let at = format!("sources.credentials[{index}].{key}");
    let invalid = |message| Error::new(ErrorKind::InvalidConfig, message);
    let text = match (&source.env, &source.file) {
        (Some(name), None) => {
            variable(name).map_err(|error| invalid(format!("`{at}.env`: `{name}`: {error}")))
        }
        (None, Some(file)) => std::fs::read_to_string(file).map_err(|error| {
            let error = ReadError::from(error);
            invalid(format!("`{at}.file`: `{}`: {error}", file.display()))
        }),
        _ => {
            return Err(invalid(format!(
                "`{at}` needs exactly one of `env` and `file`"
            )));
        }
    };
    let text = text.map_err(|error| {
        error.with_hint("the program reads the secret from there when it starts")
    })?;
    // Editors end files with a newline, which is not part of a token.
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

fn variable(name: &str) -> Result<String, ReadError> {
    env::var(name).map_err(|error| match error {
        env::VarError::NotPresent => ReadError::NotPresent,
        env::VarError::NotUnicode(_) => ReadError::NotUnicode,
    })
}
