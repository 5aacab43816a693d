//! Passwords, tokens and headers for web servers.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::kubernetes::Kubernetes;

use super::WebServer;
use crate::message;

/// Starts an executor that reads Secrets from `kubernetes`, and uses plain HTTP for `hosts`.
fn in_cluster(kubernetes: &Kubernetes, directory: &Path, hosts: &[&str]) -> Executor {
    let mut flags = kubernetes.flags(directory);
    for host in hosts {
        flags.extend(["--insecure-registry".to_owned(), (*host).to_owned()]);
    }
    Executor::start_with(Options {
        flags,
        ..Options::default()
    })
}

/// A Secret for these hosts. The data are keys and values.
fn secret(kind: &str, hosts: &str, data: &[(&str, &str)]) -> Value {
    let data: Value = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value))))
        .collect();
    json!({"type": kind, "metadata": {"annotations": {"wasm-workflow-executor/hosts": hosts}}, "data": data})
}

#[tokio::test]
async fn secrets_supply_passwords_tokens_and_headers() {
    let web = WebServer::start().await;
    let host = web.host.clone();
    let kubernetes = Kubernetes::start().await;
    let directory = tempfile::tempdir().unwrap();
    let basic = [("username", "ada"), ("password", "hunter2\n")];
    kubernetes.put(
        "secrets/basic",
        secret("kubernetes.io/basic-auth", &host, &basic),
    );
    kubernetes.put(
        "secrets/token",
        secret(
            "Opaque",
            &format!("other.example,{host}"),
            &[("token", "hunter2")],
        ),
    );
    kubernetes.put(
        "secrets/headers",
        secret("Opaque", &host, &[("headers", "X-Api-Key: hunter2\n")]),
    );
    kubernetes.put(
        "secrets/elsewhere",
        secret("Opaque", "other.example", &[("token", "hunter2")]),
    );
    kubernetes.put(
        "secrets/nowhere",
        secret("Opaque", "", &[("token", "hunter2")]),
    );
    kubernetes.put("secrets/empty", secret("Opaque", &host, &[]));
    let with = |name: &str| {
        let mut template = web.template("m.wasm");
        template["plugin"]["wasm"]["module"]["http"]["authSecret"] = json!({"name": name});
        template
    };
    let executor = in_cluster(&kubernetes, directory.path(), &[&host]);
    for (name, header, value) in [
        (
            "basic",
            "authorization",
            format!("Basic {}", STANDARD.encode("ada:hunter2")),
        ),
        ("token", "authorization", "Bearer hunter2".to_owned()),
        ("headers", "x-api-key", "hunter2".to_owned()),
    ] {
        web.require_header(header, &value);
        let node = executor.node(&with(name)).await;
        assert_eq!(node["phase"], "Succeeded", "{name}: {node}");
    }
    web.take_requests();
    for (name, expected) in [
        ("basic", "with the credentials of Secret `basic`"),
        (
            "elsewhere",
            "it has other.example. The server may require credentials",
        ),
        ("nowhere", "it does not name its hosts"),
        (
            "empty",
            "it needs `username` and `password`, or `token` alone",
        ),
    ] {
        web.require_header("x-api-key", "another");
        let executor = in_cluster(&kubernetes, directory.path(), &[&host]);
        let node = executor.node(&with(name)).await;
        assert_eq!(node["phase"], "Error", "{name}: {node}");
        assert!(message(&node).contains(expected), "{name}: {node}");
        assert!(!executor.log().contains("hunter2"), "{}", executor.log());
    }
    let requests = web.take_requests();
    assert!(requests.iter().all(|headers| {
        headers
            .get("authorization")
            .is_none_or(|sent| sent != "Bearer hunter2")
    }));
}

/// A redirect to another origin carries neither the headers of the template nor credentials. Only
/// `Accept` is kept.
#[tokio::test]
async fn redirects_to_another_origin_get_no_credentials() {
    let web = WebServer::start().await;
    let other = WebServer::start().await;
    let kubernetes = Kubernetes::start().await;
    let directory = tempfile::tempdir().unwrap();
    kubernetes.put(
        "secrets/headers",
        secret(
            "Opaque",
            &web.host,
            &[("headers", "X-Api-Key: hunter2\nCookie: c=1")],
        ),
    );
    web.redirect_to(format!("http://{}/m.wasm", other.host));
    let mut template = web.template("m.wasm");
    template["plugin"]["wasm"]["module"]["http"]["authSecret"] = json!({"name": "headers"});
    template["plugin"]["wasm"]["module"]["http"]["headers"] =
        json!({"Accept": "application/octet-stream", "X-Mine": 1});
    let node = in_cluster(&kubernetes, directory.path(), &[&web.host, &other.host])
        .node(&template)
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let first = web.take_requests();
    let second = other.take_requests();
    for name in ["x-api-key", "cookie", "accept", "x-mine"] {
        assert!(first[0].contains_key(name), "{name}: {first:?}");
        assert!(
            name == "accept" || !second[0].contains_key(name),
            "{name}: {second:?}"
        );
    }
    assert_eq!(first[0]["accept"], "application/octet-stream");
}

/// The credentials in the operator's configuration are used for web servers too.
#[tokio::test]
async fn operator_credentials_are_used_for_web_servers() {
    let web = WebServer::start().await;
    let host = &web.host;
    web.require_header("authorization", "Bearer hunter2");
    let config = json!({"sources": {"insecure": [host], "credentials": [{"host": host, "tokenFrom": {"env": "TOKEN"}}]}});
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: vec![("TOKEN".to_owned(), "hunter2".to_owned())],
        ..Options::default()
    });
    assert_eq!(
        executor.node(&web.template("m.wasm")).await["phase"],
        "Succeeded"
    );
    let mut template = web.template("m.wasm");
    for (name, value) in [
        ("Authorization", "Bearer x"),
        ("PRIVATE-TOKEN", "x"),
        ("X-Api-Key", "x"),
    ] {
        template["plugin"]["wasm"]["module"]["http"]["headers"] = json!({name: value});
        let node = executor.node(&template).await;
        assert!(
            message(&node).contains("must not be in a template: put its value into a Secret"),
            "{node}"
        );
    }
}
