//! Credentials of the user, for local mode.

use std::env;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use sources::credentials::{Candidate, Credential, DockerConfig, Keyring, helper_credential};

/// The credentials in the user's files, then `WASMER_TOKEN`. A file that cannot be read is
/// ignored.
pub(super) fn keyrings() -> Vec<Keyring> {
    files()
        .iter()
        .filter_map(|path| of_file(path))
        .chain(of_wasmer())
        .collect()
}

/// The credentials in a Docker configuration, and those of the helpers that it names.
fn of_file(path: &Path) -> Option<Keyring> {
    let json = std::fs::read(path).ok()?;
    let origin = path.display().to_string();
    let config = DockerConfig::parse(&json)
        .inspect_err(|error| tracing::warn!(origin, %error, "the credentials file is not used"))
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

/// The paths at which Docker and Podman look for their files, Docker's first.
fn files() -> Vec<PathBuf> {
    let at = |name: &str, rest: &str| {
        env::var_os(name).map(|directory| PathBuf::from(directory).join(rest))
    };
    let docker = at("DOCKER_CONFIG", "config.json").or_else(|| at("HOME", ".docker/config.json"));
    let podman = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
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
