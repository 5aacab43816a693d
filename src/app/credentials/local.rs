//! Credentials of the user, for local mode.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use sources::credentials::{
    Candidate, Credential, DockerConfig, DockerConfigError, Keyring, helper_credential,
};

/// The credentials in the user's files, then `WASMER_TOKEN`. A file that cannot be used is left
/// out, and named in the error of a refused request.
pub(super) fn keyrings() -> Vec<Keyring> {
    let legacy = variable("HOME").map(|home| home.join(".dockercfg"));
    let legacy = legacy.and_then(|path| of_file(&path, DockerConfig::parse_legacy));
    files()
        .iter()
        .filter_map(|path| of_file(path, DockerConfig::parse))
        .chain(legacy)
        .chain(of_wasmer())
        .collect()
}

/// The credentials in a Docker configuration, and those of the helpers that it names. `None` if the
/// file does not exist.
fn of_file(
    path: &Path,
    parse: fn(&[u8]) -> Result<DockerConfig, DockerConfigError>,
) -> Option<Keyring> {
    let origin = format!("`{}`", path.display());
    let mut keyring = Keyring::default();
    let config = match std::fs::read(path) {
        Ok(json) => parse(&json).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(format!("it cannot be read: {error}")),
    };
    let config = match config {
        Ok(config) => config,
        Err(why) => {
            keyring.omit(None, format!("{origin} was not used: {why}"));
            return Some(keyring);
        }
    };
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
    keyring.merge(Keyring::of(config, &origin).with_hosts_shown(&origin));
    Some(keyring)
}

fn of_wasmer() -> Option<Keyring> {
    let token = env::var("WASMER_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())?;
    let mut keyring = Keyring::default();
    keyring.insert(
        sources::wasmer::REGISTRY,
        Candidate {
            credential: Credential::Bearer(SecretString::from(token)),
            origin: "WASMER_TOKEN".to_owned(),
        },
    );
    Some(keyring)
}

/// The path in an environment variable. An empty variable is not set.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The paths at which Docker and Podman look for their files, Docker's first.
fn files() -> Vec<PathBuf> {
    let at = |name: &str, rest: &str| variable(name).map(|directory| directory.join(rest));
    let docker = at("DOCKER_CONFIG", "config.json").or_else(|| at("HOME", ".docker/config.json"));
    let podman = variable("REGISTRY_AUTH_FILE");
    // Without a directory of the session, Podman has one directory for each user.
    let of_user = || {
        Some(PathBuf::from(format!(
            "/run/containers/{}/auth.json",
            rustix::process::getuid().as_raw()
        )))
    };
    let running = at("XDG_RUNTIME_DIR", "containers/auth.json").or_else(of_user);
    let saved = at("XDG_CONFIG_HOME", "containers/auth.json")
        .or_else(|| at("HOME", ".config/containers/auth.json"));
    [docker, podman.or(running), saved]
        .into_iter()
        .flatten()
        .collect()
}
