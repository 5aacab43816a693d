//! Debian's `docker-registry` on loopback, and pushing to it with the `oci-client` crate: neither is ours.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tempfile::TempDir;

/// A running registry. Killed when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`
    pub host: String,
    _directory: TempDir,
}

impl Registry {
    /// Starts it, empty.
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let host = format!("127.0.0.1:{}", crate::free_port());
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {host}}}\n",
            directory.path().join("data").display()
        );
        std::fs::write(&config, text).expect("its configuration");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is missing: apt-get install docker-registry, or integration/test, which does");
        let started = Instant::now();
        while std::net::TcpStream::connect(&host).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, host, _directory: directory }
    }

    /// Pushes an artifact with these layers and this configuration type; returns the manifest's digest.
    pub async fn push(&self, name: &str, config_type: &str, layers: &[(&str, &[u8])]) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        let client = Client::try_from(config).expect("a client");
        let reference: Reference = format!("{}/{name}", self.host).parse().expect("a reference");
        let layers: Vec<ImageLayer> = layers
            .iter()
            .map(|(media_type, bytes)| ImageLayer::new(Bytes::copy_from_slice(bytes), (*media_type).to_owned(), None))
            .collect();
        let config = Config::new(Bytes::from_static(b"{}"), config_type.to_owned(), None);
        client.push(&reference, &layers, config, &RegistryAuth::Anonymous, None).await.expect("the push");
        client.fetch_manifest_digest(&reference, &RegistryAuth::Anonymous).await.expect("a digest")
    }

    /// Pushes a module in the CNCF layout.
    pub async fn push_module(&self, name: &str, module: &[u8]) -> String {
        self.push(name, "application/vnd.wasm.config.v0+json", &[("application/wasm", module)]).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
