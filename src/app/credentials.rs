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
use sources::{CredentialProvider, Error, ErrorKind, Requester};

use crate::config::{HostCredential, SecretSource};
use crate::kubernetes::{Kubernetes, KubernetesError, PullSecrets, Secret};

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
    pub fn load(
        configured: &[HostCredential],
        kubernetes: Option<Kubernetes>,
        personal: bool,
    ) -> Result<Self, Error> {
        let mut operator = vec![configured_keyring(configured)?];
        // Set to nothing is not set.
        if let Some(text) = env::var(AUTH_CONFIG)
            .ok()
            .filter(|text| !text.trim().is_empty())
        {
            let config = DockerConfig::parse(text.as_bytes()).map_err(|error| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    format!("{AUTH_CONFIG} cannot be used: {error}"),
                )
            })?;
            operator.push(Keyring::of(config, AUTH_CONFIG));
        }
        let personal = if personal {
            personal_keyrings()
        } else {
            Vec::new()
        };
        let secrets = Cache::builder()
            .max_capacity(1000)
            .time_to_live(FRESH)
            .build();
        let own = Cache::builder().time_to_live(OWN_FRESH).build();
        Ok(Self {
            kubernetes,
            operator,
            personal,
            secrets,
            own,
        })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Keyring, Error> {
        let Some(kubernetes) = &self.kubernetes else {
            let message =
                format!("Secret `{name}` cannot be read: there is no access to the Kubernetes API");
            return Err(Error::new(ErrorKind::InvalidConfig, message).hint(
                "the operator gives the plugin a service account, or passes credentials with `sources.credentials` or DOCKER_AUTH_CONFIG",
            ));
        };
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(keyring) = self.secrets.get(&key).await {
            return Ok(keyring);
        }
        let secret = kubernetes
            .get::<Secret>(namespace, name)
            .await
            .map_err(|error| unreadable(&error))?;
        let keyring = secret_keyring(&secret, name)?;
        self.secrets.insert(key, keyring.clone()).await;
        Ok(keyring)
    }

    /// What cannot be read here is no error: nobody asked for it. Where the API does not answer, it is asked again the next time.
    async fn own(&self) -> Keyring {
        let Some(kubernetes) = &self.kubernetes else {
            return Keyring::default();
        };
        let read = async {
            let PullSecrets { namespace, names } = match kubernetes.own_pull_secrets().await {
                Ok(found) => found,
                Err(error @ KubernetesError::Unavailable { .. }) => return Err(unreadable(&error)),
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
        self.own
            .try_get_with((), read)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "the pod's own pull secrets are not used this time");
                Keyring::default()
            })
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    async fn keyrings(&self, requester: &Requester) -> Result<Vec<Keyring>, Error> {
        // Secrets of one place count together, as for the kubelet.
        let mut named = Keyring::default();
        for name in &requester.secrets {
            named.merge(self.secret(&requester.namespace, name).await?);
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
        KubernetesError::Forbidden(_) => Error::new(ErrorKind::Unauthorized, message)
            .hint("the operator adds it to the plugin's Role"),
        KubernetesError::Unusable(_) | KubernetesError::Malformed(_) => {
            Error::new(ErrorKind::InvalidConfig, message)
        }
        KubernetesError::Unavailable { .. } => Error::new(ErrorKind::Unavailable, message),
    }
}

/// The annotation that says for which hosts a Secret is that does not say it itself.
const HOSTS: &str = "wasm-workflow-executor/hosts";

/// The kubelet takes two types of Secret, each with its own key. Others are for web servers and the like.
fn secret_keyring(secret: &Secret, name: &str) -> Result<Keyring, Error> {
    let invalid = |why: String| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("Secret `{name}` cannot be used: {why}"),
        )
    };
    if matches!(
        secret.kind.as_str(),
        "kubernetes.io/basic-auth" | "Opaque" | ""
    ) {
        let credential = plain_credential(secret).map_err(invalid)?;
        let hosts = secret.annotation(HOSTS).unwrap_or_default();
        let mut keyring = Keyring::default();
        for host in hosts.split([',', ' ']).filter(|host| !host.is_empty()) {
            keyring.insert(
                host,
                Candidate {
                    credential: credential.clone(),
                    origin: format!("Secret `{name}`"),
                },
            );
        }
        if keyring.is_empty() {
            let hint = format!(
                "annotate it with `{HOSTS}: HOST[:PORT][/PATH],…`: a password goes to no other host"
            );
            return Err(invalid("it does not say for which hosts it is".to_owned()).hint(hint));
        }
        return Ok(keyring);
    }
    let (key, parse): (_, fn(&[u8]) -> _) = match secret.kind.as_str() {
        "kubernetes.io/dockerconfigjson" => (".dockerconfigjson", DockerConfig::parse),
        "kubernetes.io/dockercfg" => (".dockercfg", DockerConfig::parse_legacy),
        other => {
            let shown: String = other.chars().take(80).collect();
            return Err(invalid(format!(
                "it is of the type `{shown}`, which has no known credentials: use `kubernetes.io/dockerconfigjson`, `kubernetes.io/basic-auth` or `Opaque`"
            )));
        }
    };
    let json = secret
        .get(key)
        .ok_or_else(|| invalid(format!("it has no key `{key}`")))?;
    let config = parse(json).map_err(|error| invalid(error.to_string()))?;
    Ok(Keyring::of(config, &format!("Secret `{name}`")))
}

/// A user with a password, a token, or headers.
fn plain_credential(secret: &Secret) -> Result<Credential, String> {
    let text = |key: &str| {
        let value = secret.get(key).map(std::str::from_utf8).transpose();
        // Editors end files with a newline, and headers have none.
        value
            .map(|text| text.map(|text| text.trim_end_matches(['\r', '\n'])))
            .map_err(|_| format!("`{key}` is not UTF-8"))
    };
    match (
        text("username")?,
        text("password")?,
        text("token")?,
        text("headers")?,
    ) {
        (Some(username), Some(password), None, None) => Ok(Credential::Basic {
            username: username.to_owned(),
            password: SecretString::from(password),
        }),
        (None, None, Some(token), None) => Ok(Credential::Bearer(SecretString::from(token))),
        (None, None, None, Some(headers)) => {
            let pair = |line: &str| {
                let (name, value) = line
                    .split_once(':')
                    .ok_or("a line of `headers` is not `NAME: VALUE`")?;
                Ok((name.trim().to_owned(), SecretString::from(value.trim())))
            };
            let lines = headers.lines().filter(|line| !line.trim().is_empty());
            lines
                .map(pair)
                .collect::<Result<_, &str>>()
                .map(Credential::Headers)
                .map_err(str::to_owned)
        }
        _ => Err(
            "it needs `username` and `password`, or `token` alone, or `headers` alone".to_owned(),
        ),
    }
}

fn configured_keyring(configured: &[HostCredential]) -> Result<Keyring, Error> {
    let mut keyring = Keyring::default();
    for (index, entry) in configured.iter().enumerate() {
        let origin = format!("`sources.credentials[{index}]`");
        let credential = match (&entry.username, &entry.password_from, &entry.token_from) {
            (Some(username), Some(password), None) => Credential::Basic {
                username: username.clone(),
                password: read(password, &origin)?,
            },
            (None, None, Some(token)) => Credential::Bearer(read(token, &origin)?),
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

fn read(source: &SecretSource, origin: &str) -> Result<SecretString, Error> {
    let (text, from) = match (&source.env, &source.file) {
        (Some(name), None) => (
            env::var(name).map_err(|error| match error {
                env::VarError::NotPresent => "there is no such environment variable".to_owned(),
                // Its text has the value in it.
                env::VarError::NotUnicode(_) => "the environment variable is not UTF-8".to_owned(),
            }),
            name.clone(),
        ),
        (None, Some(file)) => (
            std::fs::read_to_string(file).map_err(|error| error.to_string()),
            file.display().to_string(),
        ),
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{origin} needs `env` or `file`, one of them"),
            ));
        }
    };
    let text = text.map_err(|error| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("{origin}: `{from}`: {error}"),
        )
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
        let config = DockerConfig::parse(&json)
            .inspect_err(|error| tracing::warn!(origin, %error, "not used"))
            .ok()?;
        let mut keyring = Keyring::default();
        for helper in config.helpers() {
            if let Some(credential) = helper_credential(&helper.name, &helper.host) {
                keyring.insert(
                    &helper.host,
                    Candidate {
                        credential,
                        origin: format!("docker-credential-{}", helper.name),
                    },
                );
            }
        }
        keyring.merge(Keyring::of(config, &origin));
        Some(keyring)
    };
    let wasmer = env::var("WASMER_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
        .map(|token| {
            let mut keyring = Keyring::default();
            let credential = Credential::Bearer(SecretString::from(token));
            keyring.insert(
                sources::wasmer::REGISTRY,
                Candidate {
                    credential,
                    origin: "WASMER_TOKEN".to_owned(),
                },
            );
            keyring
        });
    personal_files()
        .into_iter()
        .filter_map(keyring)
        .chain(wasmer)
        .collect()
}

/// Docker's file and then Podman's, where they look for them themselves.
fn personal_files() -> Vec<PathBuf> {
    let at = |name: &str, rest: &str| {
        env::var_os(name).map(|directory| PathBuf::from(directory).join(rest))
    };
    let docker = at("DOCKER_CONFIG", "config.json").or_else(|| at("HOME", ".docker/config.json"));
    let podman = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    // Without a directory of the session, Podman has one for each user.
    let users = || {
        Some(PathBuf::from(format!(
            "/run/containers/{}/auth.json",
            rustix::process::getuid().as_raw()
        )))
    };
    let running = at("XDG_RUNTIME_DIR", "containers/auth.json").or_else(users);
    let kept = at("XDG_CONFIG_HOME", "containers/auth.json")
        .or_else(|| at("HOME", ".config/containers/auth.json"));
    [docker, podman.or(running), kept]
        .into_iter()
        .flatten()
        .collect()
}
