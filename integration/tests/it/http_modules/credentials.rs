//! Passwords, tokens and headers for web servers.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::kubernetes::Kubernetes;

use super::{Web, at};
use crate::message;

fn in_cluster(kubernetes: &Kubernetes, directory: &Path, hosts: &[&str]) -> Executor {
    let mut flags = vec![
        "--kubeconfig".to_owned(),
        kubernetes.kubeconfig(directory).display().to_string(),
    ];
    for host in hosts {
        flags.extend(["--insecure-registry".to_owned(), (*host).to_owned()]);
    }
    Executor::start_with(Options {
        flags,
        ..Options::default()
    })
}

fn secret(kind: &str, hosts: &str, data: &[(&str, &str)]) -> Value {
    let data: Value = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value))))
        .collect();
    json!({"type": kind, "metadata": {"annotations": {"wasm-workflow-executor/hosts": hosts}}, "data": data})
}

#[tokio::test]
async fn secrets_supply_passwords_tokens_and_headers() {
    let ((host, web), kubernetes) = (Web::start().await, Kubernetes::start().await);
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
        let mut template = at(&format!("http://{host}/m.wasm"));
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
        web.want(header, &value);
        let node = executor.node(&with(name)).await;
        assert_eq!(node["phase"], "Succeeded", "{name}: {node}");
    }
    web.asked();
    for (name, expected) in [
        ("basic", "with the credentials of Secret `basic`"),
        ("elsewhere", "(401 Unauthorized). It may need credentials"),
        ("nowhere", "it does not say for which hosts it is"),
        (
            "empty",
            "it needs `username` and `password`, or `token` alone",
        ),
    ] {
        web.want("x-api-key", "another");
        let executor = in_cluster(&kubernetes, directory.path(), &[&host]);
        let node = executor.node(&with(name)).await;
        assert_eq!(node["phase"], "Error", "{name}: {node}");
        assert!(message(&node).contains(expected), "{name}: {node}");
        assert!(!executor.log().contains("hunter2"), "{}", executor.log());
    }
    let sent = web.asked();
    assert!(sent.iter().all(|(_, headers)| {
        headers
            .get("authorization")
            .is_none_or(|sent| sent != "Bearer hunter2")
    }));
}

/// What a template says to one server, and what proves who asks there, is nobody else's.
#[tokio::test]
async fn redirects_to_another_origin_get_no_credentials() {
    let ((host, web), (other, elsewhere)) = (Web::start().await, Web::start().await);
    let (kubernetes, directory) = (Kubernetes::start().await, tempfile::tempdir().unwrap());
    kubernetes.put(
        "secrets/headers",
        secret(
            "Opaque",
            &host,
            &[("headers", "X-Api-Key: hunter2\nCookie: c=1")],
        ),
    );
    *web.redirect.lock().unwrap() = Some(format!("http://{other}/m.wasm"));
    let mut template = at(&format!("http://{host}/m.wasm"));
    template["plugin"]["wasm"]["module"]["http"]["authSecret"] = json!({"name": "headers"});
    template["plugin"]["wasm"]["module"]["http"]["headers"] =
        json!({"Accept": "application/octet-stream", "X-Mine": 1});
    let node = in_cluster(&kubernetes, directory.path(), &[&host, &other])
        .node(&template)
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let (first, second) = (web.asked(), elsewhere.asked());
    for name in ["x-api-key", "cookie", "accept", "x-mine"] {
        assert!(first[0].1.contains_key(name), "{name}: {first:?}");
        assert!(
            name == "accept" || !second[0].1.contains_key(name),
            "{name}: {second:?}"
        );
    }
    assert_eq!(first[0].1["accept"], "application/octet-stream");
}

/// The operator's own are for web servers too.
#[tokio::test]
async fn operator_credentials_are_used_for_web_servers() {
    let (host, web) = Web::start().await;
    web.want("authorization", "Bearer hunter2");
    let config = json!({"sources": {"insecure": [host], "credentials": [{"host": host, "tokenFrom": {"env": "TOKEN"}}]}});
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: vec![("TOKEN".to_owned(), "hunter2".to_owned())],
        ..Options::default()
    });
    assert_eq!(
        executor.node(&at(&format!("http://{host}/m.wasm"))).await["phase"],
        "Succeeded"
    );
    let mut template = at(&format!("http://{host}/m.wasm"));
    for (name, value) in [
        ("Authorization", "Bearer x"),
        ("PRIVATE-TOKEN", "x"),
        ("X-Api-Key", "x"),
    ] {
        template["plugin"]["wasm"]["module"]["http"]["headers"] = json!({name: value});
        let node = executor.node(&template).await;
        assert!(
            message(&node).contains("must not stand in a template: its value goes into a Secret"),
            "{node}"
        );
    }
}
