//! Where credentials for modules' origins are found, in this order:
//!
//! 1. the Secrets that the template names
//! 2. the operator's: `sources.credentials` of the configuration, then `DOCKER_AUTH_CONFIG`
//! 3. where the Kubernetes API can be read, the pull secrets of the executor's own pod and of its service account
//! 4. on a person's own machine, the files that `docker login` and `podman login` write, with the helpers that they name
//!
//! A credential goes to the host that it is for, and nowhere else. What a file of a cluster names as a helper is never run.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache;
use secrecy::SecretString;
use sources::credentials::{Candidate, Credential, DockerConfig, Keyring, helper_credential};
use sources::{Asker, CredentialProvider, Error, ErrorKind};

use crate::config::{HostCredential, SecretSource};
use crate::kubernetes::{Kubernetes, KubernetesError, Secret};

const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// How long what was read of a Secret is used: a password that was changed works soon after.
const FRESH: Duration = Duration::from_mins(1);
/// The same for the list of the pod's own: where the API does not answer, steps wait for it no more often.
const OWN_FRESH: Duration = Duration::from_mins(5);

/// The places that this process knows.
#[derive(Debug)]
pub struct Credentials {
    kubernetes: Option<Kubernetes>,
    operator: Vec<Keyring>,
    personal: Vec<Keyring>,
    /// By namespace and name.
    secrets: Cache<(String, String), Keyring>,
    /// The pull secrets of the executor's own pod.
    own: Cache<(), Keyring>,
}

impl Credentials {
    /// Reads the operator's, and a person's own where `personal` says so.
    pub fn load(configured: &[HostCredential], kubernetes: Option<Kubernetes>, personal: bool) -> Result<Self, Error> {
        let mut operator = vec![configured_keyring(configured)?];
        if let Ok(text) = env::var(AUTH_CONFIG) {
            let config = DockerConfig::parse(text.as_bytes()).map_err(|error| {
                Error::new(ErrorKind::InvalidConfig, format!("{AUTH_CONFIG} cannot be used: {error}"))
            })?;
            operator.push(Keyring::of(config, AUTH_CONFIG));
        }
        let personal = if personal { personal_keyrings() } else { Vec::new() };
        let secrets = Cache::builder().max_capacity(1000).time_to_live(FRESH).build();
        let own = Cache::builder().time_to_live(OWN_FRESH).build();
        Ok(Self { kubernetes, operator, personal, secrets, own })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Keyring, Error> {
        let Some(kubernetes) = &self.kubernetes else {
            let message = format!("Secret `{name}` cannot be read: there is no access to the Kubernetes API");
            return Err(Error::new(ErrorKind::InvalidConfig, message).hint(
                "the operator gives the plugin a service account, or passes credentials with `sources.credentials` or DOCKER_AUTH_CONFIG",
            ));
        };
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(keyring) = self.secrets.get(&key).await {
            return Ok(keyring);
        }
        let secret = kubernetes.secret(namespace, name).await.map_err(|error| unreadable(&error))?;
        let keyring = secret_keyring(&secret, name)?;
        self.secrets.insert(key, keyring.clone()).await;
        Ok(keyring)
    }

    /// What cannot be read here is no error: nobody asked for it. Where the API does not answer, it is asked again the next time.
    async fn own(&self) -> Keyring {
        let Some(kubernetes) = &self.kubernetes else { return Keyring::default() };
        let read = async {
            let (namespace, names) = match kubernetes.own_pull_secrets().await {
                Ok(found) => found,
                Err(error @ KubernetesError::Unavailable(..)) => return Err(unreadable(&error)),
                Err(error) => {
                    tracing::info!(%error, "the pod's own pull secrets are not used");
                    return Ok(Keyring::default());
                }
            };
            let mut keyring = Keyring::default();
            for name in names {
                match self.secret(&namespace, &name).await {
                    Ok(found) => keyring.merge(found),
                    Err(error) if error.retryable() => return Err(error),
                    Err(error) => tracing::warn!(%error, "a pull secret of the pod is not used"),
                }
            }
            Ok(keyring)
        };
        self.own.try_get_with((), read).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the pod's own pull secrets are not used this time");
            Keyring::default()
        })
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    async fn keyrings(&self, asker: &Asker) -> Result<Vec<Keyring>, Error> {
        // Secrets of one place count together, as for the kubelet.
        let mut named = Keyring::default();
        for name in &asker.secrets {
            named.merge(self.secret(&asker.namespace, name).await?);
        }
        let mut keyrings = vec![named];
        keyrings.extend(self.operator.iter().cloned());
        keyrings.push(self.own().await);
        keyrings.extend(self.personal.iter().cloned());
        Ok(keyrings)
    }
}

fn unreadable(error: &KubernetesError) -> Error {
    let message = error.to_string();
    match error {
        KubernetesError::NotFound(_) => Error::new(ErrorKind::NotFound, message)
            .hint("create it in the workflow's namespace, or mend `pull.secrets`"),
        KubernetesError::Forbidden(_) => {
            Error::new(ErrorKind::Unauthorized, message).hint("the operator adds it to the plugin's Role")
        }
        KubernetesError::Unusable(_) | KubernetesError::Malformed(_) => Error::new(ErrorKind::InvalidConfig, message),
        KubernetesError::Unavailable(..) => Error::new(ErrorKind::Unavailable, message),
    }
}

/// The kubelet takes two types of Secret, each with its own key.
fn secret_keyring(secret: &Secret, name: &str) -> Result<Keyring, Error> {
    let invalid = |why: String| Error::new(ErrorKind::InvalidConfig, format!("Secret `{name}` cannot be used: {why}"));
    let (key, parse): (_, fn(&[u8]) -> _) = match secret.kind.as_str() {
        "kubernetes.io/dockerconfigjson" => (".dockerconfigjson", DockerConfig::parse),
        "kubernetes.io/dockercfg" => (".dockercfg", DockerConfig::parse_legacy),
        other => {
            let shown: String = other.chars().take(80).collect();
            return Err(invalid(format!("it is of the type `{shown}`, and not `kubernetes.io/dockerconfigjson`")));
        }
    };
    let json = secret.get(key).ok_or_else(|| invalid(format!("it has no key `{key}`")))?;
    let config = parse(json).map_err(|error| invalid(error.to_string()))?;
    Ok(Keyring::of(config, &format!("Secret `{name}`")))
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
        (Some(name), None) => (env::var(name).map_err(|error| format!("the {error}")), name.clone()),
        (None, Some(file)) => {
            (std::fs::read_to_string(file).map_err(|error| error.to_string()), file.display().to_string())
        }
        _ => return Err(Error::new(ErrorKind::InvalidConfig, format!("{origin} needs `env` or `file`, one of them"))),
    };
    let text = text.map_err(|error| {
        Error::new(ErrorKind::InvalidConfig, format!("{origin}: `{from}`: {error}"))
            .hint("the secret is read from there when the program starts")
    })?;
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
        keyring.merge(Keyring::of(config, &origin));
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
