//! Docker's configuration file: `config.json` on a machine, `.dockerconfigjson` in a Secret.
//!
//! ```json
//! {
//!   "auths": {"ghcr.io": {"auth": "base64(user:password)"}},
//!   "credHelpers": {"gcr.io": "gcloud"},
//!   "credsStore": "desktop"
//! }
//! ```
//!
//! The legacy format, `.dockercfg`, is the value of `auths` alone. As in the kubelet, `auth`
//! overrides `username` and `password`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;

use super::Credential;

/// Base64 with or without padding: Secrets have both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The time limit for a credential helper. Some helpers ask the user.
const HELPER_TIMEOUT: Duration = Duration::from_mins(1);
/// Number of characters of a helper's message that are shown in an error.
const MAX_HELPER_MESSAGE: usize = 200;

/// A parsed configuration. It only names the credential helpers: the caller decides whether to run
/// them.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    /// The credentials in `auths`, each with its key.
    credentials: Vec<(String, Credential)>,
    /// Keys of the entries in `auths` without a credential. The credential is in the store.
    hosts: Vec<String>,
    /// `credHelpers`: the name of the helper for each host.
    helpers: BTreeMap<String, String>,
    /// `credsStore`: the helper for the hosts without an own helper.
    store: Option<String>,
}

/// A credential helper and a host that it has the credential of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// The host of the credential.
    pub host: String,
    /// Name of the program `docker-credential-NAME`, without the prefix.
    pub name: String,
}

/// The error for a malformed configuration. Shows no content, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// The text is not JSON, or not a Docker configuration.
    #[error("it is not a Docker configuration in JSON")]
    Malformed,
    /// `auth` of the entry with this key is malformed.
    #[error("its entry `{0}` has an `auth` that is not base64 of `user:password`")]
    Auth(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    #[serde(alias = "identityToken")]
    identitytoken: Option<String>,
    #[serde(alias = "registryToken")]
    registrytoken: Option<String>,
}

impl DockerConfig {
    /// Parses `config.json`, `auth.json` or `.dockerconfigjson` of a Secret.
    pub fn parse(json: &[u8]) -> Result<Self, DockerConfigError> {
        let file: File = serde_json::from_slice(json).map_err(|_| DockerConfigError::Malformed)?;
        let store = file.creds_store.filter(|name| !name.is_empty());
        Ok(Self {
            helpers: file.cred_helpers,
            store,
            ..Self::of(file.auths)?
        })
    }

    /// Parses `.dockercfg` of a Secret, the legacy format.
    pub fn parse_legacy(json: &[u8]) -> Result<Self, DockerConfigError> {
        let auths = serde_json::from_slice(json).map_err(|_| DockerConfigError::Malformed)?;
        Self::of(auths)
    }

    fn of(auths: BTreeMap<String, Entry>) -> Result<Self, DockerConfigError> {
        let mut config = Self::default();
        for (name, entry) in auths {
            match entry.credential(&name)? {
                Some(credential) => config.credentials.push((name, credential)),
                None => config.hosts.push(name),
            }
        }
        Ok(config)
    }

    /// The credential helpers: those in `credHelpers`, and the helper in `credsStore` for each
    /// other host in `auths` without a credential.
    pub fn helpers(&self) -> Vec<Helper> {
        let own = self.helpers.iter().map(|(host, name)| Helper {
            host: host.clone(),
            name: name.clone(),
        });
        let stored = self.store.iter().flat_map(|name| {
            self.hosts.iter().map(move |host| Helper {
                host: host.clone(),
                name: name.clone(),
            })
        });
        let stored = stored.filter(|helper| !self.helpers.contains_key(&helper.host));
        own.chain(stored).collect()
    }

    pub(super) fn into_credentials(self) -> Vec<(String, Credential)> {
        self.credentials
    }
}

impl Entry {
    /// The credential of the entry with the key `name`. `None` if only the store has the
    /// credential.
    fn credential(self, name: &str) -> Result<Option<Credential>, DockerConfigError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.identitytoken) {
            return Ok(Some(Credential::Identity(SecretString::from(token))));
        }
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(Credential::Bearer(SecretString::from(token))));
        }
        let pair = match given(self.auth) {
            Some(auth) => Some(
                decode(&auth)
                    .ok_or_else(|| DockerConfigError::Auth(name.chars().take(100).collect()))?,
            ),
            None => given(self.username).map(|username| UserPassword {
                username,
                password: self.password.unwrap_or_default(),
            }),
        };
        Ok(
            pair.map(|UserPassword { username, password }| Credential::Basic {
                username,
                password: SecretString::from(password),
            }),
        )
    }
}

/// The content of `auth`.
struct UserPassword {
    username: String,
    password: String,
}

/// Decodes `auth`, the base64 of `user:password`. `None` if it is malformed.
fn decode(auth: &str) -> Option<UserPassword> {
    let plain: String = auth.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let text = String::from_utf8(BASE64.decode(plain).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(UserPassword {
        username: username.to_owned(),
        // Docker pads passwords with NUL.
        password: password.trim_end_matches('\0').to_owned(),
    })
}

/// The output of `docker-credential-NAME get`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

/// Gets the credential of `host` from the credential helper `docker-credential-NAME`
/// (<https://github.com/docker/docker-credential-helpers>). Blocks the thread.
///
/// Returns `None` if the helper has no credential, and [`Credential::Unobtainable`] if the helper
/// fails. The helper is a program that the user's own configuration names.
pub fn helper_credential(name: &str, host: &str) -> Option<Credential> {
    if !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    {
        return Some(Credential::Unobtainable(
            "cannot be obtained: the name of the credential helper is invalid".to_owned(),
        ));
    }
    match run_helper(&format!("docker-credential-{name}"), host) {
        Ok(output) if output.status.success() => {
            Some(match serde_json::from_slice(&output.stdout) {
                Ok(HelperOutput { username, secret }) if username == "<token>" => {
                    Credential::Identity(secret.into())
                }
                Ok(HelperOutput { username, secret }) => Credential::Basic {
                    username,
                    password: secret.into(),
                },
                Err(_) => Credential::Unobtainable(
                    "cannot be obtained: the output of the credential helper is malformed"
                        .to_owned(),
                ),
            })
        }
        // A helper without the credential prints these words on standard output.
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("credentials not found") => {
            None
        }
        Ok(output) => {
            let message = String::from_utf8_lossy(&output.stdout);
            let message: String = message
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_HELPER_MESSAGE)
                .collect();
            Some(Credential::Unobtainable(format!(
                "cannot be obtained: the credential helper failed with {} and the message `{message}`",
                output.status
            )))
        }
        Err(error) => Some(Credential::Unobtainable(format!(
            "cannot be obtained: {error}"
        ))),
    }
}

/// Runs `PROGRAM get` with the host on standard input, for at most [`HELPER_TIMEOUT`].
fn run_helper(program: &str, host: &str) -> io::Result<Output> {
    let mut command = Command::new(program);
    let mut helper = command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = helper.stdin.take() {
        // The error is ignored: the exit status of a helper that does not read says more.
        let _ = stdin.write_all(host.as_bytes());
    }
    let started = Instant::now();
    while helper.try_wait()?.is_none() {
        if started.elapsed() > HELPER_TIMEOUT {
            helper.kill()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "the credential helper did not answer within {} s",
                    HELPER_TIMEOUT.as_secs()
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    helper.wait_with_output()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn shown(json: &str) -> Vec<String> {
        let show = |(host, credential): &(String, Credential)| match credential {
            Credential::Basic { username, password } => {
                format!("{host} {username}:{}", password.expose_secret())
            }
            Credential::Identity(token) => format!("{host} identity {}", token.expose_secret()),
            Credential::Bearer(token) => format!("{host} bearer {}", token.expose_secret()),
            Credential::Headers(_) | Credential::Unobtainable(_) => {
                unreachable!("a Docker configuration has no such credential")
            }
        };
        DockerConfig::parse(json.as_bytes())
            .unwrap()
            .credentials
            .iter()
            .map(show)
            .collect()
    }

    #[test]
    fn every_form_of_a_credential_is_parsed() {
        let json = r#"{"auths": {
            "a": {"auth": "dTpwOnc="}, "b": {"auth": "dTpwOnc"}, "c": {"auth": "dTpw\nOnc=\n"},
            "d": {"username": "u", "password": "p"}, "e": {"username": "x", "password": "y", "auth": "dTpw"},
            "f": {"identitytoken": "t", "auth": "dTo="}, "g": {"registrytoken": "r"}, "h": {}, "i": {"auth": "dTpwAAAA"}
        }, "credHelpers": {"gcr.io": "gcloud"}, "credsStore": "desktop", "HttpHeaders": {"X": "y"}}"#;
        assert_eq!(
            shown(json),
            [
                "a u:p:w",
                "b u:p:w",
                "c u:p:w",
                "d u:p",
                "e u:p",
                "f identity t",
                "g bearer r",
                "i u:p"
            ]
        );
        let config = DockerConfig::parse(json.as_bytes()).unwrap();
        let named = |host: &str, name: &str| Helper {
            host: host.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(
            config.helpers(),
            [named("gcr.io", "gcloud"), named("h", "desktop")]
        );
    }

    #[test]
    fn the_legacy_format_is_the_value_of_auths() {
        let config = DockerConfig::parse_legacy(br#"{"a": {"auth": "dTpw"}}"#).unwrap();
        assert_eq!(config.credentials.len(), 1);
    }

    #[test]
    fn errors_show_nothing_secret() {
        let error = |json: &str| {
            DockerConfig::parse(json.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error("{\"auths\": {\"a\": {\"auth\": 5}}}"),
            "it is not a Docker configuration in JSON"
        );
        assert!(!error(r#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#).contains("c2VjcmV0"));
        let config = DockerConfig::parse(br#"{"auths": {"a": {"auth": "dTpzZWNyZXQ="}}}"#).unwrap();
        assert!(!format!("{config:?} {:?}", config.credentials).contains("secret"));
    }

    #[test]
    fn a_helper_with_a_path_or_without_a_program_is_unobtainable() {
        for name in ["../../bin/sh", "not-there"] {
            assert!(
                matches!(
                    helper_credential(name, "h"),
                    Some(Credential::Unobtainable(_))
                ),
                "{name}"
            );
        }
    }
}
