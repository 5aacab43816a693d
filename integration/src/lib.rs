//! Tests of the executor against real servers, and doubles of what cannot be started on one machine.
//!
//! | module | what it is |
//! |---|---|
//! | [`executor`] | the program itself, as a process |
//! | [`agent`] | Argo's agent, as strict as the real one |
//! | [`task_set_server`] | the API server that the agent talks to, with the controller's part |
//! | [`task_set_schema`] | what that refuses |
//! | [`registry`] | Debian's `docker-registry`, as a process |
//! | [`bindle_server`] | the original Bindle crate's server, as a process |
//! | [`wasmer_registry`] | a Wasmer registry: graphql-core over its published schema |
//! | [`kubernetes`] | an API server with RBAC |
//! | [`token_server`] | a registry's token server |
//! | [`s3`] | an S3 server in this process, and what can go wrong with one |
//! | [`other_stores`] | S3 servers of others, as processes |
//! | [`guests`] | the modules of `modules/`, built from source, and programs of others |
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness stops at what it does not expect"
)]

pub mod agent;
pub mod bindle_server;
pub mod executor;
pub mod guests;
pub mod kubernetes;
pub mod other_stores;
pub mod registry;
pub mod s3;
pub mod task_set_schema;
pub mod task_set_server;
pub mod token_server;
pub mod wasmer_registry;

use std::time::{Duration, Instant};

/// An HTTP client for tests: no proxy, no redirects, no retries of its own.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tls_certs_only([])
        .build()
        .expect("an HTTP client")
}

/// Waits until `condition` holds, for at most ten seconds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{what} did not happen in ten seconds"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server that is a process of its own. Killed when dropped.
#[derive(Debug)]
struct Server(std::process::Child);

impl Server {
    /// Starts it, and waits until it listens on `host`.
    fn start(mut command: std::process::Command, host: &str) -> Self {
        let name = command.get_program().display().to_string();
        let silent = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let child = silent
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}: integration/test installs it"));
        let (server, started) = (Self(child), Instant::now());
        while std::net::TcpStream::connect(host).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{name} does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
