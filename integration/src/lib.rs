//! Tests of the executor against real servers. Test doubles replace the servers that cannot be
//! started on one machine.
//!
//! | module | content |
//! |---|---|
//! | [`executor`] | the program under test, as a process |
//! | [`container`] | a control group with a memory limit, for that process |
//! | [`hostile`] | attacks: modules that exceed limits, and callers whose requests never end |
//! | [`agent`] | a test double of Argo's agent, as strict as the real agent |
//! | [`task_set_server`] | the API server of the agent, and the part of Argo's controller that fills task sets |
//! | [`task_set_schema`] | the checks with which that API server refuses a patch |
//! | [`registry`] | Debian's `docker-registry`, as a process |
//! | [`bindle_server`] | the server of the original Bindle crate, as a process |
//! | [`wasmer_registry`] | a Wasmer registry: graphql-core with the published schema |
//! | [`kubernetes`] | a Kubernetes API server with RBAC |
//! | [`token_server`] | the token server of a registry |
//! | [`s3`] | an S3 server in this process, with faults on request |
//! | [`other_programs`] | runs programs such as openssl, and makes certificates |
//! | [`other_stores`] | S3 servers of other projects, as processes |
//! | [`guests`] | the modules of `modules/`, built from source, and programs of other projects |
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an unexpected value ends the test"
)]

pub mod agent;
pub mod bindle_server;
pub mod cluster;
pub mod container;
pub mod executor;
pub mod guests;
pub mod hostile;
pub mod kubernetes;
pub mod other_programs;
pub mod other_stores;
pub mod registry;
pub mod s3;
pub mod task_set_schema;
pub mod task_set_server;
pub mod token_server;
pub mod wasmer_registry;

use std::time::{Duration, Instant};

use axum::serve::ListenerExt;

/// An HTTP client for tests: it uses no proxy, follows no redirects and does not retry.
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

/// Serves the routes on loopback, until the runtime of the test ends. Returns the address,
/// `127.0.0.1:PORT`.
pub async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    // No Nagle's algorithm: it would delay small answers, whose head and body are sent apart.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    host
}

/// Waits until `condition` is true. Panics with `what` after ten seconds.
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

/// A server in a separate process. The process is killed when this value is dropped.
#[derive(Debug)]
struct ServerProcess(std::process::Child);

impl ServerProcess {
    /// Starts the server, and waits until it listens on `host`.
    fn start(mut command: std::process::Command, host: &str) -> Self {
        let name = command.get_program().display().to_string();
        let silent = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let child = silent.spawn().unwrap_or_else(|error| {
            panic!("cannot start {name}: {error}; integration/test installs it")
        });
        let server = Self(child);
        let started = Instant::now();
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

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of the loopback address that was free at the time of the call.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
