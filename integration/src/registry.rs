//! Debian's `docker-registry` on loopback, and pushes with the `oci-client` crate. Both come from
//! other projects, so a mistake of this project cannot hide in them.

use std::process::Command;

use bytes::Bytes;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ServerProcess;
use crate::token_server::{PASSWORD, TokenServer, USER};

/// A running registry. It is stopped when this value is dropped.
#[derive(Debug)]
pub struct Registry {
    _server: ServerProcess,
    /// Address of the registry, such as `127.0.0.1:PORT`.
    pub host: String,
    _directory: TempDir,
}

/// The access rules of a registry.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// Every client may pull and push without credentials.
    Open,
    /// The only user is [`USER`] with
    /// [`PASSWORD`].
    Password,
    /// A client needs a token of this token server.
    Token(&'a TokenServer),
}

/// Entry of an `htpasswd` file for [`USER`] and [`PASSWORD`]. The registry supports only bcrypt.
const HTPASSWD: &str = "user:$2b$05$WeRtqejVFTgkvBIyUziaguX2lSKnwin32U6K1eYltU5TrmJGKluNa";

impl Registry {
    /// Starts an empty registry with [`Access::Open`].
    pub fn start() -> Self {
        Self::start_with(Access::Open)
    }

    /// Starts an empty registry with these access rules.
    pub fn start_with(access: Access<'_>) -> Self {
        Self::start_on("127.0.0.1", access)
    }

    /// Starts an empty registry on an address of this machine. An IPv6 address is in brackets.
    pub fn start_on(address: &str, access: Access<'_>) -> Self {
        let directory = TempDir::new().expect("a directory");
        let auth = match access {
            Access::Open => String::new(),
            Access::Password => {
                let file = directory.path().join("htpasswd");
                std::fs::write(&file, HTPASSWD).expect("the passwords");
                format!(
                    "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                    file.display()
                )
            }
            Access::Token(server) => server.registry_config(),
        };
        let host = format!("{address}:{}", crate::free_port());
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n{auth}",
            directory.path().join("data").display()
        );
        std::fs::write(&config, text).expect("the configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        Self {
            _server: ServerProcess::start(command, &host),
            host,
            _directory: directory,
        }
    }

    /// Stores a manifest under a tag or digest, and returns the digest of the manifest.
    pub async fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        document: &Value,
    ) -> String {
        self.put_bytes(
            name,
            reference,
            media_type,
            document.to_string().into_bytes(),
        )
        .await
    }

    /// Stores the exact bytes of a manifest under a tag or digest, and returns the digest.
    pub async fn put_bytes(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> String {
        let url = format!("http://{}/v2/{name}/manifests/{reference}", self.host);
        let request = crate::http()
            .put(url)
            .basic_auth(USER, Some(PASSWORD))
            .header("content-type", media_type);
        let answer = request.body(body.clone()).send().await.expect("an answer");
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap_or_default()
        );
        sources::Digest::of(&body).to_string()
    }

    /// Stores a blob, and returns its descriptor without annotations.
    pub async fn put_blob(&self, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        let client = crate::http();
        let digest = sources::Digest::of(bytes).to_string();
        let start = client
            .post(format!("http://{}/v2/{name}/blobs/uploads/", self.host))
            .basic_auth(USER, Some(PASSWORD));
        let location = start.send().await.expect("an answer").headers()["location"]
            .to_str()
            .expect("a URL")
            .to_owned();
        let joint = if location.contains('?') { '&' } else { '?' };
        let finish = client
            .put(format!("{location}{joint}digest={digest}"))
            .basic_auth(USER, Some(PASSWORD));
        let answer = finish.body(bytes.to_vec()).send().await.expect("an answer");
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap_or_default()
        );
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Pushes an artifact with this configuration type and these layers. A layer is a media type
    /// and its bytes. Returns the digest of the manifest.
    pub async fn push(&self, name: &str, config_type: &str, layers: &[(&str, &[u8])]) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).expect("a client");
        let reference: Reference = format!("{}/{name}", self.host)
            .parse()
            .expect("a reference");
        let layers: Vec<ImageLayer> = layers
            .iter()
            .map(|(media_type, bytes)| {
                ImageLayer::new(
                    Bytes::copy_from_slice(bytes),
                    (*media_type).to_owned(),
                    None,
                )
            })
            .collect();
        let config = Config::new(Bytes::from_static(b"{}"), config_type.to_owned(), None);
        let auth = RegistryAuth::Basic(USER.to_owned(), PASSWORD.to_owned());
        client
            .push(&reference, &layers, config, &auth, None)
            .await
            .expect("the push");
        client
            .fetch_manifest_digest(&reference, &auth)
            .await
            .expect("a digest")
    }

    /// Pushes a module in the CNCF layout, and returns the digest of the manifest.
    pub async fn push_module(&self, name: &str, module: &[u8]) -> String {
        self.push(
            name,
            "application/vnd.wasm.config.v0+json",
            &[("application/wasm", module)],
        )
        .await
    }
}
