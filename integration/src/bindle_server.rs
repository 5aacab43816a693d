//! The original Bindle crate as a server on loopback, with what the tests put into its directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sources::Digest;
use tempfile::TempDir;

use crate::guests::program;

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct BindleServer {
    child: Child,
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
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("integration/fetch-programs");
        let started = Instant::now();
        while std::net::TcpStream::connect(&host).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "the Bindle server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, host, directory }
    }

    /// Puts an invoice where the server looks for that of `id`, as it is.
    pub fn put_invoice(&self, id: &str, invoice: &str) {
        self.put(&format!("invoices/{}/invoice.toml", Digest::of(id.as_bytes()).hex()), invoice.as_bytes());
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

impl Drop for BindleServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the original crate makes of an invoice: `json` or `sign`.
pub fn original(command: &str, invoice: &str) -> String {
    let directory = TempDir::new().expect("a directory");
    let file: PathBuf = directory.path().join("invoice.toml");
    std::fs::write(&file, invoice).expect("a file");
    let output = run(command, &file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn run(command: &str, file: &Path) -> std::process::Output {
    Command::new(program("bindle-server")).arg(command).arg(file).output().expect("integration/fetch-programs")
}
