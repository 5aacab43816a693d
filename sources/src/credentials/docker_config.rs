//! Docker's configuration file, as Secrets and machines carry it.
//!
//! ```json
//! {"auths": {"ghcr.io": {"auth": "base64(user:password)"}}, "credHelpers": {"gcr.io": "gcloud"}, "credsStore": "desktop"}
//! ```
//!
//! `.dockercfg` of old has the inside of `auths` alone. `auth` wins over `username` and `password`, as in the kubelet.

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

/// Padded or not: both are found in Secrets.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How long a helper may take: some ask a person.
const HELPER_TIMEOUT: Duration = Duration::from_mins(1);
/// The most that is shown of what a helper says.
const SAID: usize = 200;

/// A parsed file. Helpers are only named: who runs them decides whether they may be run.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    credentials: Vec<(String, Credential)>,
    /// Entries without a credential: a store has it.
    hosts: Vec<String>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

/// A program that has the credential for a host: `docker-credential-NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// The host of the credential.
    pub host: String,
    /// The name of the program, without `docker-credential-`.
    pub name: String,
}

/// Why a text is none. It says nothing of the content, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// Not JSON, or of another shape.
    #[error("it is not a Docker configuration in JSON")]
    Malformed,
    /// One entry cannot be read.
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
    /// Reads `config.json`, `auth.json` or a Secret's `.dockerconfigjson`.
    pub fn parse(json: &[u8]) -> Result<Self, DockerConfigError> {
        let file: File = serde_json::from_slice(json).map_err(|_| DockerConfigError::Malformed)?;
        let store = file.creds_store.filter(|name| !name.is_empty());
        Ok(Self {
            helpers: file.cred_helpers,
            store,
            ..Self::of(file.auths)?
        })
    }

    /// Reads a Secret's `.dockercfg`.
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

    /// The credential helpers: those of single hosts, and the store for the hosts that have no entry of
    /// their own.
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
    /// `None` for an entry that only says that a helper knows.
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
            None => {
                given(self.username).map(|username| (username, self.password.unwrap_or_default()))
            }
        };
        Ok(pair.map(|(username, password)| Credential::Basic {
            username,
            password: SecretString::from(password),
        }))
    }
}

fn decode(auth: &str) -> Option<(String, String)> {
    let plain: String = auth.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let text = String::from_utf8(BASE64.decode(plain).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker pads passwords with NUL.
    Some((
        username.to_owned(),
        password.trim_end_matches('\0').to_owned(),
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks `docker-credential-NAME`, a program that the user's own configuration names, for `host`'s credential
/// (<https://github.com/docker/docker-credential-helpers>). Blocks. `None` when it has none; [`Credential::Unobtainable`] when it cannot be asked.
pub fn helper_credential(name: &str, host: &str) -> Option<Credential> {
    if !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    {
        return Some(Credential::Unobtainable(
            "cannot be obtained: its name is none of a credential helper".to_owned(),
        ));
    }
    match ask_helper(&format!("docker-credential-{name}"), host) {
        Ok(output) if output.status.success() => {
            Some(match serde_json::from_slice::<Answer>(&output.stdout) {
                Ok(Answer { username, secret }) if username == "<token>" => {
                    Credential::Identity(secret.into())
                }
                Ok(Answer { username, secret }) => Credential::Basic {
                    username,
                    password: secret.into(),
                },
                Err(_) => Credential::Unobtainable(
                    "cannot be obtained: it answers with something else".to_owned(),
                ),
            })
        }
        // Helpers say so in these words, on standard output.
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("credentials not found") => {
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let said: String = said
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .take(SAID)
                .collect();
            Some(Credential::Unobtainable(format!(
                "cannot be obtained: it ended with {} and says `{said}`",
                output.status
            )))
        }
        Err(error) => Some(Credential::Unobtainable(format!(
            "cannot be obtained: {error}"
        ))),
    }
}

fn ask_helper(program: &str, host: &str) -> io::Result<Output> {
    let mut command = Command::new(program);
    let mut helper = command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = helper.stdin.take() {
        // One that does not read the name ends, and says more by that.
        let _ = stdin.write_all(host.as_bytes());
    }
    let started = Instant::now();
    while helper.try_wait()?.is_none() {
        if started.elapsed() > HELPER_TIMEOUT {
            helper.kill()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it says nothing for {} s", HELPER_TIMEOUT.as_secs()),
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
            Credential::Headers(_) | Credential::Unobtainable(_) => unreachable!("Docker has none"),
        };
        DockerConfig::parse(json.as_bytes())
            .unwrap()
            .credentials
            .iter()
            .map(show)
            .collect()
    }

    #[test]
    fn reads_every_way_to_write_a_credential() {
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
    fn the_old_format_is_the_inside() {
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
    fn a_helper_is_named_without_a_path() {
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
