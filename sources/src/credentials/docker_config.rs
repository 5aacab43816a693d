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
//! overrides `username` and `password`. The JSON is read as Go reads it, and an entry that cannot
//! be used is left out: the other entries are used.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{Credential, RefreshToken};

/// Base64 with or without padding: Secrets have both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Number of characters of a key that are shown in an error.
const MAX_KEY: usize = 100;

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
    /// The parts that cannot be used.
    left_out: Vec<LeftOut>,
}

/// A part of a configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Key of the entry. `None` if the part is not about one host.
    pub(super) key: Option<String>,
    /// The defect of the part, without its content: "its entry `a` has …".
    pub(super) why: String,
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
#[error("it is not a Docker configuration in JSON ({0})")]
pub struct DockerConfigError(#[from] go_json::Error);

/// Why an entry of `auths` cannot be used. The text follows "its entry `KEY`", and shows no
/// content, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum EntryError {
    #[error("is malformed: {0}")]
    Malformed(#[from] go_json::Error),
    #[error("has an `auth` that is not base64")]
    NotBase64,
    #[error("has an `auth` that is not base64 of UTF-8")]
    NotUtf8,
    #[error("has an `auth` without the `:` between user and password")]
    NoColon,
}

/// The parts of the file. Each part is read on its own, so that a mistake in one part does not
/// affect the others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct File {
    auths: Value,
    cred_helpers: Value,
    creds_store: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerConfig {
    /// Parses `config.json`, `auth.json` or `.dockerconfigjson` of a Secret.
    ///
    /// # Errors
    ///
    /// The text is not a map in JSON.
    pub fn parse(json: &[u8]) -> Result<Self, DockerConfigError> {
        let file: File = go_json::from_slice(json)?;
        let mut config = Self::default();
        let auths = config.part("auths", &file.auths);
        config.add(auths);
        let helpers: BTreeMap<String, Value> = config.part("credHelpers", &file.cred_helpers);
        for (host, name) in helpers {
            let at = format!("its `credHelpers` for `{}`", shown(&host));
            match go_json::from_value::<String>(&name) {
                Ok(name) if name.is_empty() => {}
                Ok(name) => {
                    config.helpers.insert(host, name);
                }
                Err(error) => config.leave_out(Some(host), format!("{at} is malformed: {error}")),
            }
        }
        let store: String = config.part("credsStore", &file.creds_store);
        config.store = Some(store).filter(|name| !name.is_empty());
        Ok(config)
    }

    /// Parses `.dockercfg` of a Secret, the legacy format.
    ///
    /// # Errors
    ///
    /// The text is not a map in JSON.
    pub fn parse_legacy(json: &[u8]) -> Result<Self, DockerConfigError> {
        let mut config = Self::default();
        config.add(go_json::from_slice(json)?);
        Ok(config)
    }

    /// Reads one part of the file. A part with the wrong type is left out.
    fn part<T: serde::de::DeserializeOwned + Default>(&mut self, name: &str, value: &Value) -> T {
        go_json::from_value(value).unwrap_or_else(|error| {
            self.leave_out(None, format!("its `{name}` is malformed: {error}"));
            T::default()
        })
    }

    /// Adds the entries of `auths`. An entry that cannot be used is left out.
    fn add(&mut self, auths: BTreeMap<String, Value>) {
        for (key, value) in auths {
            let credential = go_json::from_value::<Entry>(&value)
                .map_err(EntryError::from)
                .and_then(Entry::credential);
            match credential {
                Ok(Some(credential)) => self.credentials.push((key, credential)),
                Ok(None) => self.hosts.push(key),
                Err(why) => {
                    let why = format!("its entry `{}` {why}", shown(&key));
                    self.leave_out(Some(key), why);
                }
            }
        }
    }

    fn leave_out(&mut self, key: Option<String>, why: String) {
        self.left_out.push(LeftOut { key, why });
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

    /// The credentials, each with its key, and the parts that cannot be used.
    pub(super) fn into_parts(self) -> (Vec<(String, Credential)>, Vec<LeftOut>) {
        (self.credentials, self.left_out)
    }
}

/// A key of the configuration, cut for an error.
fn shown(key: &str) -> String {
    key.chars().take(MAX_KEY).collect()
}

impl Entry {
    /// The credential of the entry. `None` if only the store has the credential.
    fn credential(self) -> Result<Option<Credential>, EntryError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(self.refresh_token())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Bearer(self.registrytoken.into())));
        }
        let Login { username, password } = self.login()?;
        let has_login = !self.auth.is_empty() || !username.is_empty();
        Ok(has_login.then_some(Credential::Basic { username, password }))
    }

    /// Username and password. Both are empty if the entry has none.
    fn login(&self) -> Result<Login, EntryError> {
        match self.auth.as_str() {
            "" => Ok(Login {
                username: self.username.clone(),
                password: self.password.as_str().into(),
            }),
            auth => decode(auth),
        }
    }

    /// The refresh token. Its login is the login of the entry. If the entry has no password, the
    /// refresh token is the password, as Azure's registry expects.
    fn refresh_token(&self) -> RefreshToken {
        let token = RefreshToken::from(SecretString::from(self.identitytoken.as_str()));
        match self.login() {
            Ok(Login { username, password }) if password.expose_secret().is_empty() => {
                RefreshToken { username, ..token }
            }
            Ok(Login { username, password }) => RefreshToken {
                username,
                password,
                ..token
            },
            Err(_) => token,
        }
    }
}

/// Username and password of an entry.
struct Login {
    username: String,
    password: SecretString,
}

/// Decodes `auth`, the base64 of `user:password`.
fn decode(auth: &str) -> Result<Login, EntryError> {
    let plain: String = auth.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(plain).map_err(|_| EntryError::NotBase64)?;
    let text = String::from_utf8(bytes).map_err(|_| EntryError::NotUtf8)?;
    let (username, password) = text.split_once(':').ok_or(EntryError::NoColon)?;
    Ok(Login {
        username: username.to_owned(),
        // Docker pads passwords with NUL.
        password: SecretString::from(password.trim_end_matches('\0')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> Vec<String> {
        let show = |(host, credential): &(String, Credential)| match credential {
            Credential::Basic { username, password } => {
                format!("{host} {username}:{}", password.expose_secret())
            }
            Credential::Identity(RefreshToken {
                token,
                username,
                password,
            }) => format!(
                "{host} identity {} {username}:{}",
                token.expose_secret(),
                password.expose_secret()
            ),
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
                "f identity t u:t",
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

    /// A token server without OAuth 2 gets the login.
    #[test]
    fn a_refresh_token_has_a_login() {
        for (entry, login) in [
            (r#"{"identitytoken": "t"}"#, ":t"),
            (r#"{"identitytoken": "t", "auth": "dTpw"}"#, "u:p"),
            (r#"{"identitytoken": "t", "auth": "dTo="}"#, "u:t"),
            (r#"{"identitytoken": "t", "auth": "*"}"#, ":t"),
            (r#"{"identitytoken": "t", "username": "u"}"#, "u:t"),
            (
                r#"{"identitytoken": "t", "username": "u", "password": "p"}"#,
                "u:p",
            ),
        ] {
            let config = format!(r#"{{"auths": {{"h": {entry}}}}}"#);
            assert_eq!(shown(&config), [format!("h identity t {login}")], "{entry}");
        }
    }

    /// The reasons for which parts of a configuration are left out.
    fn left_out(json: &str) -> Vec<String> {
        let config = DockerConfig::parse(json.as_bytes()).unwrap();
        config.left_out.into_iter().map(|part| part.why).collect()
    }

    #[test]
    fn null_is_absence_everywhere_in_a_docker_configuration() {
        let json = r#"{"auths": {
            "a": {"auth": "dTpw", "email": null, "identitytoken": null, "registrytoken": null, "username": null},
            "b": null, "c": {"auth": null, "username": "u", "password": null}
        }, "credHelpers": {"x": null}, "credsStore": null, "HttpHeaders": null}"#;
        assert_eq!(shown(json), ["a u:p", "c u:"]);
        assert_eq!(left_out(json), [""; 0]);
        for json in [
            r#"{"auths": null}"#,
            r#"{"credHelpers": null}"#,
            "null",
            "{}",
        ] {
            assert_eq!(shown(json), [""; 0], "{json}");
        }
    }

    #[test]
    fn keys_match_in_any_case_as_in_go() {
        let json = r#"{"AUTHS": {"a": {"Auth": "dTpw"}, "b": {"identityToken": "t"}}}"#;
        assert_eq!(shown(json), ["a u:p", "b identity t :t"]);
    }

    #[test]
    fn an_entry_that_cannot_be_used_does_not_affect_the_others() {
        let json = r#"{"auths": {
            "a": {"auth": "bm9jb2xvbg=="}, "b": {"auth": "c2VjcmV0*"}, "c": {"auth": "//86//8="},
            "d": {"auth": 5}, "e": "secret", "f": ["secret"], "good": {"auth": "dTpw"}
        }, "credHelpers": {"g": 5, "h": "helper"}, "credsStore": ["secret"]}"#;
        assert_eq!(shown(json), ["good u:p"]);
        assert_eq!(
            left_out(json),
            [
                "its entry `a` has an `auth` without the `:` between user and password",
                "its entry `b` has an `auth` that is not base64",
                "its entry `c` has an `auth` that is not base64 of UTF-8",
                "its entry `d` is malformed: `auth`: expected a text, found a number",
                "its entry `e` is malformed: expected a map, found a text",
                "its entry `f` is malformed: expected a map, found a list",
                "its `credHelpers` for `g` is malformed: expected a text, found a number",
                "its `credsStore` is malformed: expected a text, found a list",
            ]
        );
        let config = DockerConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.helpers().len(), 1);
        let wrong_part = r#"{"auths": ["secret"], "credHelpers": {"h": "helper"}}"#;
        let config = DockerConfig::parse(wrong_part.as_bytes()).unwrap();
        assert_eq!(config.helpers().len(), 1);
        assert_eq!(
            left_out(wrong_part),
            ["its `auths` is malformed: expected a map, found a list"]
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
            error(r#"{"auths": secret}"#),
            "it is not a Docker configuration in JSON (not JSON, at line 1 column 11)"
        );
        assert_eq!(
            error(r#"["secret"]"#),
            "it is not a Docker configuration in JSON (expected a map, found a list)"
        );
        let config = DockerConfig::parse(br#"{"auths": {"a": {"auth": "dTpzZWNyZXQ="}}}"#).unwrap();
        assert!(!format!("{config:?} {:?}", config.credentials).contains("secret"));
    }
}
