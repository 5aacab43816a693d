//! The server of the original Bindle crate, on loopback. Tests write invoices and parcels directly
//! into its directory, so that the server can serve invalid ones.

use std::path::PathBuf;
use std::process::Command;

use sources::Digest;
use tempfile::TempDir;

use crate::ServerProcess;
use crate::guests::program;
use crate::other_programs::succeed;

/// A running Bindle server. It is stopped when this value is dropped.
#[derive(Debug)]
pub struct BindleServer {
    _server: ServerProcess,
    /// Address of the server: `127.0.0.1:PORT`.
    pub host: String,
    directory: TempDir,
}

impl BindleServer {
    /// Starts a server that requires no credentials.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts a server. With `htpasswd`, only the users in that file may read.
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
            _server: ServerProcess::start(command, &host),
            host,
            directory,
        }
    }

    /// Stores an invoice under `id`, without checking that the invoice has that id.
    pub fn put_invoice(&self, id: &str, invoice: &str) {
        self.put(
            &format!("invoices/{}/invoice.toml", Digest::of(id.as_bytes()).hex()),
            invoice.as_bytes(),
        );
    }

    /// Stores bytes as the parcel `digest`, without checking their digest.
    pub fn put_parcel(&self, digest: &Digest, bytes: &[u8]) {
        self.put(&format!("parcels/{}/parcel.dat", digest.hex()), bytes);
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let file = self.directory.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        std::fs::write(file, bytes).expect("a file");
    }
}

/// Output of the original crate for an invoice. The command is `json` or `sign`.
pub fn original(command: &str, invoice: &str) -> String {
    let directory = TempDir::new().expect("a directory");
    let file: PathBuf = directory.path().join("invoice.toml");
    std::fs::write(&file, invoice).expect("a file");
    let mut original = Command::new(program("bindle-server"));
    let output = succeed(original.arg(command).arg(&file));
    String::from_utf8(output.stdout).expect("text")
}
