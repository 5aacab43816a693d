//! A Wasmer registry on loopback. graphql-core executes its queries, and Wasmer's own library makes
//! its packages.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sources::Digest;
use tempfile::TempDir;

use crate::ServerProcess;
use crate::guests::{program, repository};
use crate::other_programs::succeed;

/// A running registry. It is stopped when this value is dropped.
#[derive(Debug)]
pub struct WasmerRegistry {
    _server: ServerProcess,
    /// Address of the registry: `127.0.0.1:PORT`.
    pub host: String,
    directory: TempDir,
}

/// A request that the registry received.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Path of the request.
    pub path: String,
    /// Value of the header `Authorization`.
    pub authorization: Option<String>,
}

impl WasmerRegistry {
    /// Starts an empty registry.
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
            _server: ServerProcess::start(command, &host),
            host,
            directory,
        }
    }

    /// Replaces the packages. With a token, the registry requires that token.
    pub fn set(&self, packages: &Value, token: Option<&str>) {
        let fixture = json!({"packages": packages, "token": token});
        std::fs::write(
            self.directory.path().join("fixture.json"),
            fixture.to_string(),
        )
        .expect("a file");
    }

    /// Serves a file, and returns its URL.
    pub fn serve(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.directory.path().join(name), bytes).expect("a file");
        format!("http://{}/files/{name}?signature=secret", self.host)
    }

    /// Serves a container, and returns its description as a `PackageDistribution` of the registry.
    pub fn container(&self, name: &str, bytes: &[u8]) -> Value {
        let url = self.serve(name, bytes);
        json!({"piritaDownloadUrl": url, "piritaSha256Hash": Digest::of(bytes).hex(), "piritaSize": bytes.len()})
    }

    /// The requests since the last call of this function.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let file = self.directory.path().join("log");
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            RecordedRequest {
                path: line["path"].as_str().unwrap_or_default().to_owned(),
                authorization: line["authorization"].as_str().map(str::to_owned),
            }
        };
        log.lines().map(line).collect()
    }
}

/// A container in this version of the WEBC format, made by Wasmer's own library. A module is a name
/// and a file.
pub fn pack(version: &str, manifest: &Value, modules: &[(&str, &Path)]) -> Vec<u8> {
    let directory = TempDir::new().expect("a directory");
    let out = directory.path().join("out.webc");
    let mut command = Command::new(program("webc-pack"));
    command.arg(version).arg(manifest.to_string()).arg(&out);
    for (name, file) in modules {
        command.arg(format!("{name}={}", file.display()));
    }
    succeed(&mut command);
    std::fs::read(out).expect("a file")
}
