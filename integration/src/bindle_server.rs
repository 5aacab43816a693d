//! The original Bindle crate as a server on loopback, with what the tests put into its directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use sources::Digest;
use tempfile::TempDir;

use crate::Server;
use crate::guests::program;

/// A running server.
#[derive(Debug)]
pub struct BindleServer {
    _server: Server,
    /// `127.0.0.1:PORT`
    pub host: String,
    directory: TempDir,
}

impl BindleServer {
    /// Starts it for everybody.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts it, for everybody or for the users in `htpasswd`.
    pub fn start_with(htpasswd: Option<&str>) -> Self {
        let directory = TempDir::new().expect("a directory");
        let host = format!("127.0.0.1:{}", crate::free_port());
        let mut command = Command::new(program("bindle-server"));
        command.args(["serve", &host]).arg(directory.path());
        if let Some(htpasswd) = htpasswd {
            let file = directory.path().join("htpasswd");
            std::fs::write(&file, htpasswd).expect("the passwords");
            command.arg(file);
        }
        Self {
            _server: Server::start(command, &host),
            host,
            directory,
        }
    }

    /// Puts an invoice where the server looks for that of `id`, as it is.
    pub fn put_invoice(&self, id: &str, invoice: &str) {
        self.put(
            &format!("invoices/{}/invoice.toml", Digest::of(id.as_bytes()).hex()),
            invoice.as_bytes(),
        );
    }

    /// Puts a parcel where the server looks for that of `digest`, whatever it is.
    pub fn put_parcel(&self, digest: &Digest, bytes: &[u8]) {
        self.put(&format!("parcels/{}/parcel.dat", digest.hex()), bytes);
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let file = self.directory.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        std::fs::write(file, bytes).expect("a file");
    }
}

/// What the original crate makes of an invoice: `json` or `sign`.
pub fn original(command: &str, invoice: &str) -> String {
    let directory = TempDir::new().expect("a directory");
    let file: PathBuf = directory.path().join("invoice.toml");
    std::fs::write(&file, invoice).expect("a file");
    let output = run(command, &file);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

fn run(command: &str, file: &Path) -> std::process::Output {
    Command::new(program("bindle-server"))
        .arg(command)
        .arg(file)
        .output()
        .expect("integration/fetch-programs")
}
