//! S3 servers of other projects, as processes. `integration/other-stores` fetches them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::other_programs::{stdout_of, succeed};
use crate::{ServerProcess, free_port, s3};

const ACCESS_KEY: &str = "GK31c2f218a2e44f485b94239e";
const SECRET_KEY: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";
const RPC_SECRET: &str = "1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec";

/// A running server with the bucket `artifacts`. It is stopped when this value is dropped.
#[derive(Debug)]
pub struct OtherStore {
    /// Address of the server: `127.0.0.1:PORT`.
    pub endpoint: String,
    region: &'static str,
    _server: ServerProcess,
    _directory: TempDir,
}

/// Path at which `integration/other-stores` stores a program.
pub fn fetched(name: &str) -> PathBuf {
    crate::guests::repository()
        .join("target/other-stores/bin")
        .join(name)
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

impl OtherStore {
    /// Starts Garage with one node.
    pub fn garage(program: &Path) -> Self {
        let directory = TempDir::new().expect("a directory");
        let endpoint = free_address();
        let rpc = free_address();
        let config = directory.path().join("garage.toml");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let text = format!(
            "metadata_dir = '{}'\ndata_dir = '{}'\ndb_engine = 'sqlite'\nreplication_factor = 1\nrpc_bind_addr = '{rpc}'\n\
             rpc_public_addr = '{rpc}'\nrpc_secret = '{RPC_SECRET}'\n[s3_api]\ns3_region = 'garage'\napi_bind_addr = '{endpoint}'\n",
            at("meta"),
            at("data")
        );
        std::fs::write(&config, text).expect("a file");
        let garage = |arguments: &[&str]| {
            let mut garage = Command::new(program);
            stdout_of(garage.arg("-c").arg(&config).args(arguments))
        };
        let mut server = Command::new(program);
        server.arg("-c").arg(&config).arg("server");
        let server = ServerProcess::start(server, &endpoint);
        let node = garage(&["node", "id", "-q"]);
        garage(&[
            "layout",
            "assign",
            "-z",
            "here",
            "-c",
            "10G",
            node.split('@').next().expect("an id"),
        ]);
        garage(&["layout", "apply", "--version", "1"]);
        garage(&[
            "key", "import", "--yes", "-n", "test", ACCESS_KEY, SECRET_KEY,
        ]);
        garage(&["bucket", "create", "artifacts"]);
        garage(&[
            "bucket",
            "allow",
            "--read",
            "--write",
            "--owner",
            "artifacts",
            "--key",
            ACCESS_KEY,
        ]);
        Self {
            endpoint,
            region: "garage",
            _server: server,
            _directory: directory,
        }
    }

    /// Starts `rclone serve s3`.
    pub fn rclone(program: &Path) -> Self {
        let directory = TempDir::new().expect("a directory");
        std::fs::create_dir(directory.path().join("artifacts")).expect("a bucket");
        let endpoint = free_address();
        let mut server = Command::new(program);
        server.args([
            "serve",
            "s3",
            "--addr",
            &endpoint,
            "--auth-key",
            &format!("{ACCESS_KEY},{SECRET_KEY}"),
        ]);
        server.arg(directory.path());
        let server = ServerProcess::start(server, &endpoint);
        Self {
            endpoint,
            region: "us-east-1",
            _server: server,
            _directory: directory,
        }
    }

    /// The bucket in Argo's form. It has no keys: the keys are in the environment.
    pub fn bucket(&self) -> Value {
        json!({"endpoint": self.endpoint, "bucket": "artifacts", "insecure": true, "region": self.region})
    }

    /// Environment variables with the keys of the server.
    pub fn environment() -> Vec<(String, String)> {
        s3::keys(ACCESS_KEY, SECRET_KEY)
    }

    /// The beginning of a shell command that calls `curl` with a signature.
    pub fn curl(&self) -> String {
        let region = self.region;
        format!(
            "curl -sSf --aws-sigv4 aws:amz:{region}:s3 --user {ACCESS_KEY}:{SECRET_KEY} -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD'"
        )
    }

    fn request(&self, key: &str, more: &str) -> Vec<u8> {
        let command = format!(
            "{} http://{}/artifacts/{key} {more}",
            self.curl(),
            self.endpoint
        );
        succeed(Command::new("sh").args(["-c", &command])).stdout
    }

    /// Stores an object.
    pub fn put(&self, key: &str, content: &[u8]) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, content).expect("a file");
        self.request(key, &format!("-T {}", file.path().display()));
    }

    /// Content of an object.
    pub fn get(&self, key: &str) -> Vec<u8> {
        self.request(key, "")
    }
}
