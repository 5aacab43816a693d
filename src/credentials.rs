//! Where credentials for modules' origins are found, in this order:
//!
//! 1. the Secrets that the template names
//! 2. the operator's: `sources.credentials` of the configuration, then `DOCKER_AUTH_CONFIG`
//! 3. on a person's own machine, the files that `docker login` and `podman login` write, with the helpers that they name
//!
//! A credential goes to the host that it is for, and nowhere else. What a file of a cluster names as a helper is never run.

use std::env;
use std::path::PathBuf;

use async_trait::async_trait;
use secrecy::SecretString;
use sources::credentials::{Candidate, Credential, DockerConfig, Keyring, helper_credential};
use sources::{Asker, CredentialProvider, Error, ErrorKind};

use crate::config::{HostCredential, SecretSource};

const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// The places that this process knows.
#[derive(Debug)]
pub struct Credentials {
    operator: Vec<Keyring>,
    personal: Vec<Keyring>,
}

impl Credentials {
    /// Reads the operator's, and a person's own where `personal` says so.
    pub fn load(configured: &[HostCredential], personal: bool) -> Result<Self, Error> {
        let mut operator = vec![configured_keyring(configured)?];
        if let Ok(text) = env::var(AUTH_CONFIG) {
            operator.push(docker_keyring(text.as_bytes(), AUTH_CONFIG)?);
        }
        let personal = if personal { personal_keyrings() } else { Vec::new() };
        Ok(Self { operator, personal })
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    async fn keyrings(&self, asker: &Asker) -> Result<Vec<Keyring>, Error> {
        if let Some(name) = asker.secrets.first() {
            let message = format!("Secret `{name}` cannot be read: this version has no access to the Kubernetes API");
            return Err(Error::new(ErrorKind::Unsupported, message).hint(
                "the operator can pass credentials with `sources.credentials`, or in DOCKER_AUTH_CONFIG from a Secret",
            ));
        }
        Ok(self.operator.iter().chain(&self.personal).cloned().collect())
    }
}

fn docker_keyring(json: &[u8], origin: &str) -> Result<Keyring, Error> {
    let config = DockerConfig::parse(json)
        .map_err(|error| Error::new(ErrorKind::InvalidConfig, format!("{origin} cannot be used: {error}")))?;
    let mut keyring = Keyring::default();
    keyring.add(config, origin);
    Ok(keyring)
}

fn configured_keyring(configured: &[HostCredential]) -> Result<Keyring, Error> {
    let mut keyring = Keyring::default();
    for (index, entry) in configured.iter().enumerate() {
        let origin = format!("`sources.credentials[{index}]`");
        let credential = match (&entry.username, &entry.password_from, &entry.token_from) {
            (Some(username), Some(password), None) => {
                Credential::Basic { username: username.clone(), password: read(password, &origin)? }
            }
            (None, None, Some(token)) => Credential::Bearer(read(token, &origin)?),
            _ => {
                let message = format!("{origin} needs `username` and `passwordFrom`, or `tokenFrom` alone");
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
        };
        keyring.insert(&entry.host, Candidate { credential, origin });
    }
    Ok(keyring)
}

fn read(source: &SecretSource, origin: &str) -> Result<SecretString, Error> {
    let (text, from) = match (&source.env, &source.file) {
        (Some(name), None) => (env::var(name).map_err(|error| error.to_string()), name.clone()),
        (None, Some(file)) => {
            (std::fs::read_to_string(file).map_err(|error| error.to_string()), file.display().to_string())
        }
        _ => return Err(Error::new(ErrorKind::InvalidConfig, format!("{origin} needs `env` or `file`, one of them"))),
    };
    let text = text.map_err(|error| Error::new(ErrorKind::InvalidConfig, format!("{origin}: `{from}`: {error}")))?;
    // A file's last line ends, and a token's does not.
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

/// What is in the files of a person. A file that cannot be read is the person's own affair.
fn personal_keyrings() -> Vec<Keyring> {
    let keyring = |path: PathBuf| {
        let json = std::fs::read(&path).ok()?;
        let origin = path.display().to_string();
        let config = DockerConfig::parse(&json).inspect_err(|error| tracing::warn!(origin, %error, "not used")).ok()?;
        let mut keyring = Keyring::default();
        for (host, helper) in config.helpers() {
            if let Some(credential) = helper_credential(&helper, &host) {
                keyring.insert(&host, Candidate { credential, origin: format!("docker-credential-{helper}") });
            }
        }
        keyring.add(config, &origin);
        Some(keyring)
    };
    personal_files().into_iter().filter_map(keyring).collect()
}

/// Docker's file and then Podman's, where they look for them themselves.
fn personal_files() -> Vec<PathBuf> {
    let at = |name: &str, rest: &str| env::var_os(name).map(|directory| PathBuf::from(directory).join(rest));
    let docker = at("DOCKER_CONFIG", "config.json").or_else(|| at("HOME", ".docker/config.json"));
    let podman = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let running = at("XDG_RUNTIME_DIR", "containers/auth.json");
    let kept = at("XDG_CONFIG_HOME", "containers/auth.json").or_else(|| at("HOME", ".config/containers/auth.json"));
    [docker, podman.or(running), kept].into_iter().flatten().collect()
}
