//! Credentials in Secrets.

use secrecy::SecretString;
use sources::credentials::{Candidate, Credential, DockerConfig, Keyring};
use sources::{Error, ErrorKind};

use crate::kubernetes::{NotBase64, Secret};

/// The annotation with the hosts of a Secret that does not name its hosts itself.
const HOSTS: &str = "wasm-workflow-executor/hosts";
const CONFIG_TYPE: &str = "kubernetes.io/dockerconfigjson";
const CONFIG_KEY: &str = ".dockerconfigjson";
const LEGACY_TYPE: &str = "kubernetes.io/dockercfg";
const LEGACY_KEY: &str = ".dockercfg";

/// Reads the credentials in a Secret.
///
/// The two types with Docker configurations are those that the kubelet uses. Secrets of the types
/// `kubernetes.io/basic-auth` and `Opaque` need the annotation with hosts.
pub(super) fn keyring(secret: &Secret, name: &str) -> Result<Keyring, Error> {
    let invalid = |reason: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("Secret `{name}` cannot be used: {reason}"),
        )
    };
    let (key, parse): (_, fn(&[u8]) -> _) = match secret.kind.as_str() {
        "kubernetes.io/basic-auth" | "Opaque" | "" => {
            let credential = credential(secret).map_err(|error| invalid(&error))?;
            let keyring = for_annotated_hosts(secret, name, &credential);
            if keyring.is_empty() {
                return Err(invalid(&"it does not name its hosts").with_hint(format!(
                    "annotate it with `{HOSTS}: HOST[:PORT][/PATH],…`: \
                     a password is sent to no other host"
                )));
            }
            return Ok(keyring);
        }
        CONFIG_TYPE => (CONFIG_KEY, DockerConfig::parse),
        LEGACY_TYPE => (LEGACY_KEY, DockerConfig::parse_legacy),
        other => {
            let shown: String = other.chars().take(80).collect();
            return Err(invalid(&format!(
                "it is of the type `{shown}`, which has no known credentials: use \
                 `kubernetes.io/dockerconfigjson`, `kubernetes.io/basic-auth` or `Opaque`"
            )));
        }
    };
    let json = secret
        .get(key)
        .map_err(|error| invalid(&error))?
        .ok_or_else(|| invalid(&format!("it has no key `{key}`, which its type demands")))?;
    let config = parse(json).map_err(|error| invalid(&error))?;
    Ok(Keyring::of(config, &origin(name)))
}

/// A Secret as the origin of credentials, for errors.
pub(super) fn origin(name: &str) -> String {
    format!("Secret `{name}`")
}

fn for_annotated_hosts(secret: &Secret, name: &str, credential: &Credential) -> Keyring {
    let hosts = secret.annotation(HOSTS).unwrap_or_default();
    let mut keyring = Keyring::default();
    for host in hosts.split([',', ' ']).filter(|host| !host.is_empty()) {
        keyring.insert(
            host,
            Candidate {
                credential: credential.clone(),
                origin: origin(name),
            },
        );
    }
    keyring
}

/// Why the keys of a Secret are not a credential.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error("`{0}` is not UTF-8")]
    NotText(&'static str),
    #[error(transparent)]
    NotBase64(#[from] NotBase64),
    #[error(
        "it has the key `{0}` of a Docker configuration, but its type is not `{1}`; \
         create it with this type"
    )]
    OtherType(&'static str, &'static str),
    #[error("a line of `headers` is not `NAME: VALUE`")]
    Header,
    #[error("it needs `username` and `password`, or `token` alone, or `headers` alone")]
    Keys,
}

/// A user with a password, a token, or headers.
fn credential(secret: &Secret) -> Result<Credential, KeysError> {
    let text = |key: &'static str| {
        let value = secret.get(key)?.map(std::str::from_utf8).transpose();
        // Editors end files with a newline, and headers cannot contain one.
        value
            .map(|text| text.map(|text| text.trim_end_matches(['\r', '\n'])))
            .map_err(|_| KeysError::NotText(key))
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
            let header = |line: &str| {
                let (name, value) = line.split_once(':').ok_or(KeysError::Header)?;
                Ok((name.trim().to_owned(), SecretString::from(value.trim())))
            };
            let lines = headers.lines().filter(|line| !line.trim().is_empty());
            lines
                .map(header)
                .collect::<Result<_, _>>()
                .map(Credential::Headers)
        }
        _ => Err(docker_configuration(secret).unwrap_or(KeysError::Keys)),
    }
}

/// The error for a Docker configuration in a Secret with another type.
fn docker_configuration(secret: &Secret) -> Option<KeysError> {
    [(CONFIG_KEY, CONFIG_TYPE), (LEGACY_KEY, LEGACY_TYPE)]
        .into_iter()
        .find(|(key, _)| secret.has(key))
        .map(|(key, kind)| KeysError::OtherType(key, kind))
}
