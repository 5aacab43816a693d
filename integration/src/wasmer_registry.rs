//! A Wasmer registry on loopback, whose queries graphql-core executes, and packages made by the registry's own library.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sources::Digest;
use tempfile::TempDir;

use crate::Server;
use crate::guests::{program, repository};

/// A running registry.
#[derive(Debug)]
pub struct WasmerRegistry {
    _server: Server,
    /// `127.0.0.1:PORT`
    pub host: String,
    directory: TempDir,
}

impl WasmerRegistry {
    /// Starts it, empty.
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let port = crate::free_port();
        let host = format!("127.0.0.1:{port}");
        std::fs::write(directory.path().join("fixture.json"), r#"{"packages": {}}"#)
            .expect("a file");
        let mut command = Command::new("python3");
        command
            .arg(repository().join("integration/wasmer/registry.py"))
            .arg(port.to_string())
            .args([
                directory.path().join("fixture.json"),
                directory.path().join("log"),
            ])
            .env("PYTHONPATH", program("graphql"));
        Self {
            _server: Server::start(command, &host),
            host,
            directory,
        }
    }

    /// Has these packages, and wants this token if there is one.
    pub fn set(&self, packages: &Value, token: Option<&str>) {
        let fixture = json!({"packages": packages, "token": token});
        std::fs::write(
            self.directory.path().join("fixture.json"),
            fixture.to_string(),
        )
        .expect("a file");
    }

    /// Serves a file; returns its URL.
    pub fn serve(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.directory.path().join(name), bytes).expect("a file");
        format!("http://{}/files/{name}?signature=secret", self.host)
    }

    /// A distribution as the registry describes it, of a container that it serves.
    pub fn container(&self, name: &str, bytes: &[u8]) -> Value {
        let url = self.serve(name, bytes);
        json!({"piritaDownloadUrl": url, "piritaSha256Hash": Digest::of(bytes).hex(), "piritaSize": bytes.len()})
    }

    /// What was asked for since: paths, and what proved who asked.
    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        let file = self.directory.path().join("log");
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            (
                line["path"].as_str().unwrap_or_default().to_owned(),
                line["authorization"].as_str().map(str::to_owned),
            )
        };
        log.lines().map(line).collect()
    }
}

/// A container in this version of the format, made by the registry's own library.
pub fn pack(version: &str, manifest: &Value, modules: &[(&str, &Path)]) -> Vec<u8> {
    let directory = TempDir::new().expect("a directory");
    let out = directory.path().join("out.webc");
    let mut command = Command::new(program("webc-pack"));
    command.arg(version).arg(manifest.to_string()).arg(&out);
    for (name, file) in modules {
        command.arg(format!("{name}={}", file.display()));
    }
    let output = command.output().expect("integration/fetch-programs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read(out).expect("a file")
}
