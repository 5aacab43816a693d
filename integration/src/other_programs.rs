//! Runs programs of other projects that `integration/test` installs.

use std::path::Path;
use std::process::{Command, Output};

/// Runs a command to its end, and returns its output. Panics with the standard error of a command
/// that fails.
pub fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; integration/test installs it"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command as [`succeed`] does. Returns its standard output without the last line break.
pub fn stdout_of(command: &mut Command) -> String {
    let stdout = succeed(command).stdout;
    String::from_utf8(stdout).expect("a text").trim().to_owned()
}

/// Runs openssl in `directory`. Single spaces separate the arguments.
pub fn openssl(directory: &Path, arguments: &str) {
    let mut openssl = Command::new("openssl");
    succeed(openssl.args(arguments.split(' ')).current_dir(directory));
}

/// Writes a certificate authority (`ca.pem`, `ca.key`), and a certificate that the authority signed
/// (`cert.pem`, `key.pem`). An example of a name is `IP:127.0.0.1`. A comma separates names.
pub fn write_certificates(directory: &Path, names: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let extensions = format!("subjectAltName={names}\n");
    std::fs::write(directory.join("extensions"), extensions).expect("a file");
    for arguments in [
        &format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"),
        &format!("req {key} -subj /CN=server -keyout key.pem -out request.pem"),
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem",
    ] {
        openssl(directory, arguments);
    }
}
