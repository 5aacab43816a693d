//! Credential helpers: the programs `docker-credential-NAME`
//! (<https://github.com/docker/docker-credential-helpers>).

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde::Deserialize;

use super::Credential;

/// The time limit for a credential helper. Some helpers ask the user.
const HELPER_TIMEOUT: Duration = Duration::from_mins(1);
/// Number of characters of a helper's message that are shown in an error.
const MAX_HELPER_MESSAGE: usize = 200;

/// The output of `docker-credential-NAME get`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

/// Gets the credential of `host` from the credential helper `docker-credential-NAME`. Blocks the
/// thread.
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
        Ok(output) if output.status.success() => Some(match go_json::from_slice(&output.stdout) {
            Ok(HelperOutput { username, secret }) if username == "<token>" => {
                Credential::Identity(SecretString::from(secret).into())
            }
            Ok(HelperOutput { username, secret }) => Credential::Basic {
                username,
                password: secret.into(),
            },
            Err(_) => Credential::Unobtainable(
                "cannot be obtained: the output of the credential helper is malformed".to_owned(),
            ),
        }),
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Credential::Unobtainable(
            format!("cannot be obtained: there is no program `docker-credential-{name}` in `PATH`"),
        )),
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
    use super::*;

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
