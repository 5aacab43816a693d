//! Credentials for registries: passwords, tokens and pull secrets. Hostile registries cannot obtain
//! them.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::kubernetes::Kubernetes;
use wasm_workflow_integration::registry::{Access, Registry};
use wasm_workflow_integration::token_server::{PASSWORD, REFRESH_TOKEN, TokenServer, USER};

use crate::{message, template_of_module};

/// Docker configuration. An entry is a registry, and `USER:PASSWORD`.
fn docker_config(entries: &[(&str, &str)]) -> Value {
    let auths = entries
        .iter()
        .map(|(host, pair)| ((*host).to_owned(), json!({"auth": STANDARD.encode(pair)})));
    json!({"auths": auths.collect::<serde_json::Map<_, _>>()})
}

fn with_docker_config(hosts: &[&str], config: &Value) -> Executor {
    Executor::start_with(Options {
        flags: hosts
            .iter()
            .flat_map(|host| ["--insecure-registry".to_owned(), (*host).to_owned()])
            .collect(),
        env: vec![("DOCKER_AUTH_CONFIG".to_owned(), config.to_string())],
        ..Options::default()
    })
}

/// An executor that trusts a token server on another port of the registry's host.
fn with_token_server(registry: &str, realm: &str, config: &Value) -> Executor {
    let sources = json!({"insecure": [registry, realm], "trustedRealms": [realm]});
    Executor::start_with(Options {
        config: Some(json!({"sources": sources}).to_string()),
        env: vec![("DOCKER_AUTH_CONFIG".to_owned(), config.to_string())],
        ..Options::default()
    })
}

fn of(reference: &str) -> Value {
    template_of_module(json!({"oci": reference}))
}

async fn push_noop(registry: &Registry) -> String {
    registry
        .push_module(
            "m:1",
            &std::fs::read(guests::guest("noop-command")).unwrap(),
        )
        .await;
    format!("{}/m:1", registry.host)
}

#[tokio::test]
async fn registry_passwords_are_used_and_wrong_ones_are_errors() {
    let registry = Registry::start_with(Access::Password);
    let reference = push_noop(&registry).await;
    let host = registry.host.as_str();
    let right = format!("{USER}:{PASSWORD}");
    let node = with_docker_config(&[host], &docker_config(&[(host, &right)]))
        .node(&of(&reference))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let executor = with_docker_config(&[host], &docker_config(&[(host, "user:hunter2")]));
    let node = executor.node(&of(&reference)).await;
    assert_eq!(node["phase"], "Error");
    assert!(
        message(&node).contains("with the credentials of DOCKER_AUTH_CONFIG"),
        "{node}"
    );
    assert!(
        message(&node).contains("refuses tag `1` of `m` (401 Unauthorized)"),
        "{node}"
    );
    assert!(
        !executor.log().contains("hunter2")
            && !executor.log().contains(&STANDARD.encode("user:hunter2"))
    );
    let node = with_docker_config(&[host], &docker_config(&[("127.0.0.1:1", &right)]))
        .node(&of(&reference))
        .await;
    assert!(
        message(&node)
            .contains("The artifact may not exist, or the registry may require credentials: name a Secret under `pull.secrets`"),
        "{node}"
    );
    // The more specific key is tried first. The next key is tried after a refusal.
    let two = docker_config(&[(&format!("{host}/m"), "user:old"), (host, &right)]);
    assert_eq!(
        with_docker_config(&[host], &two)
            .node(&of(&reference))
            .await["phase"],
        "Succeeded"
    );
}

#[tokio::test]
async fn tokens_are_obtained_with_passwords_and_refresh_tokens() {
    let server = TokenServer::start().await;
    let registry = Registry::start_with(Access::Token(&server));
    let reference = push_noop(&registry).await;
    let host = registry.host.as_str();
    let realm = server
        .realm
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/token")
        .unwrap();
    let requests_before = server.requests().len();
    let node = with_token_server(host, realm, &json!({}))
        .node(&of(&reference))
        .await;
    assert!(message(&node).contains("refuses"), "{node}");
    let right = docker_config(&[(host, &format!("{USER}:{PASSWORD}"))]);
    assert_eq!(
        with_token_server(host, realm, &right)
            .node(&of(&reference))
            .await["phase"],
        "Succeeded"
    );
    let identity = json!({"auths": {host: {"identitytoken": REFRESH_TOKEN}}});
    assert_eq!(
        with_token_server(host, realm, &identity)
            .node(&of(&reference))
            .await["phase"],
        "Succeeded"
    );
    let requests = server.requests().split_off(requests_before);
    let count = |how: &str| {
        requests
            .iter()
            .filter(|request| **request == format!("{how} repository:m:pull"))
            .count()
    };
    assert_eq!(
        (count("password"), count("refresh")),
        (1, 1),
        "one token for all three requests: {requests:?}"
    );
    let wrong = docker_config(&[(host, "user:hunter2")]);
    let node = with_token_server(host, realm, &wrong)
        .node(&of(&reference))
        .await;
    assert!(
        message(&node).contains("with the credentials of DOCKER_AUTH_CONFIG"),
        "a refused password is not followed by an anonymous request: {node}"
    );
}

#[tokio::test]
async fn operator_credentials_are_used_for_registries_and_mirrors() {
    let registry = Registry::start_with(Access::Password);
    let reference = push_noop(&registry).await;
    let host = &registry.host;
    let credentials =
        json!([{"host": host, "username": USER, "passwordFrom": {"env": "REGISTRY_PASSWORD"}}]);
    let start = |credentials: &Value| {
        Executor::start_with(Options {
            config: Some(
                json!({"sources": {"insecure": [host], "credentials": credentials}}).to_string(),
            ),
            env: vec![("REGISTRY_PASSWORD".to_owned(), PASSWORD.to_owned())],
            ..Options::default()
        })
    };
    let node = start(&credentials).node(&of(&reference)).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let mirrored = json!({"sources": {"insecure": [host], "credentials": credentials, "mirrors": {"registry.example": ["127.0.0.1:1", host]}}});
    let executor = Executor::start_with(Options {
        config: Some(mirrored.to_string()),
        env: vec![("REGISTRY_PASSWORD".to_owned(), PASSWORD.to_owned())],
        ..Options::default()
    });
    let node = executor.node(&of("registry.example/m:1")).await;
    assert_eq!(
        node["phase"], "Succeeded",
        "the second mirror has it: {node}"
    );
}

/// Starts an executor in the pod `agent-pod`. It reads Secrets from `kubernetes`.
fn in_cluster(kubernetes: &Kubernetes, directory: &Path, registry: &str) -> Executor {
    let kubeconfig = kubernetes.kubeconfig(directory).display().to_string();
    let flags = ["--insecure-registry", registry, "--kubeconfig", &kubeconfig]
        .map(str::to_owned)
        .to_vec();
    let env = vec![("HOSTNAME".to_owned(), "agent-pod".to_owned())];
    Executor::start_with(Options {
        flags,
        env,
        ..Options::default()
    })
}

fn with_secrets(reference: &str, secrets: &[&str]) -> Value {
    let mut template = of(reference);
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    template["plugin"]["wasm"]["pull"] = json!({"secrets": secrets});
    template
}

#[tokio::test]
async fn pull_secrets_of_the_template_are_used() {
    let registry = Registry::start_with(Access::Password);
    let kubernetes = Kubernetes::start().await;
    let reference = push_noop(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    let right = format!("{USER}:{PASSWORD}");
    kubernetes.put_pull_secret("regcred", &docker_config(&[(&registry.host, &right)]));
    kubernetes.put_pull_secret("old", &docker_config(&[(&registry.host, "user:hunter2")]));
    kubernetes.put_pull_secret("elsewhere", &docker_config(&[("ghcr.io", "user:hunter2")]));
    kubernetes.put_pull_secret("forbidden", &docker_config(&[]));
    kubernetes.forbid("secrets/forbidden");
    let legacy = STANDARD.encode(docker_config(&[(&registry.host, &right)])["auths"].to_string());
    kubernetes.put(
        "secrets/legacy",
        json!({"type": "kubernetes.io/dockercfg", "data": {".dockercfg": legacy}}),
    );
    kubernetes.put(
        "secrets/opaque",
        json!({"type": "Opaque", "data": {"password": STANDARD.encode("hunter2")}}),
    );
    kubernetes.put(
        "secrets/broken",
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": STANDARD.encode("{hunter2")}}),
    );
    kubernetes.put(
        "secrets/malformed",
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "hunter2!"}}),
    );

    let executor = in_cluster(&kubernetes, directory.path(), &registry.host);
    for secrets in [
        &["regcred"][..],
        &["legacy"],
        &["elsewhere", "regcred"],
        &["old", "regcred"],
    ] {
        let node = executor.node(&with_secrets(&reference, secrets)).await;
        assert_eq!(node["phase"], "Succeeded", "{secrets:?}: {node}");
    }
    let executor = in_cluster(&kubernetes, directory.path(), &registry.host);
    let cases = [
        (&["old"][..], "with the credentials of Secret `old`"),
        (
            &["elsewhere"],
            "(401 Unauthorized); Secret `elsewhere` has nothing for ",
        ),
        (
            &["none"],
            "there is no Secret `none` of namespace `argo`. Create it in the workflow's namespace",
        ),
        (
            &["forbidden"],
            "Secret `forbidden` of namespace `argo` may not be read: the service account needs the verb `get`",
        ),
        (
            &["opaque"],
            "Secret `opaque` cannot be used: it needs `username` and `password`, or `token` alone, or `headers` alone",
        ),
        (
            &["broken"],
            "Secret `broken` cannot be used: it is not a Docker configuration in JSON",
        ),
        (
            &["malformed"],
            "Secret `malformed` cannot be used: the value of its key `.dockerconfigjson` is not base64",
        ),
        (
            &["../pods/x"],
            "`template.plugin.wasm.pull.secrets[0].name`: `../pods/x` cannot be a Secret's name",
        ),
    ];
    for (secrets, expected) in cases {
        let node = executor.node(&with_secrets(&reference, secrets)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{secrets:?}: {node}");
    }
    let log = executor.log();
    assert!(
        !log.contains("hunter2") && !log.contains(&STANDARD.encode("user:hunter2")),
        "{log}"
    );
    let node = Executor::start()
        .node(&with_secrets(&reference, &["regcred"]))
        .await;
    assert!(
        message(&node).contains("cannot be read: there is no access to the Kubernetes API"),
        "{node}"
    );
}

#[tokio::test]
async fn pull_secrets_of_the_executors_pod_are_used() {
    let registry = Registry::start_with(Access::Password);
    let kubernetes = Kubernetes::start().await;
    let reference = push_noop(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    kubernetes.put_pull_secret(
        "regcred",
        &docker_config(&[(&registry.host, &format!("{USER}:{PASSWORD}"))]),
    );
    kubernetes.put(
        "serviceaccounts/agent",
        json!({"imagePullSecrets": [{"name": "regcred"}]}),
    );
    kubernetes.put(
        "pods/agent-pod",
        json!({"spec": {"serviceAccountName": "agent", "imagePullSecrets": [{"name": "gone"}]}}),
    );
    let executor = in_cluster(&kubernetes, directory.path(), &registry.host);
    let steps = (0..20).map(|_| of(&reference)).collect::<Vec<_>>();
    let nodes = futures::future::join_all(steps.iter().map(|step| executor.node(step))).await;
    assert!(
        nodes.iter().all(|node| node["phase"] == "Succeeded"),
        "{nodes:?}"
    );
    wait_for_log(&executor, "a pull secret of the pod is not used").await;
    let count = |path: &str| {
        kubernetes
            .requests()
            .iter()
            .filter(|request| *request == path)
            .count()
    };
    assert_eq!(
        (count("argo/pods/agent-pod"), count("argo/secrets/regcred")),
        (1, 1),
        "one request for all steps"
    );

    kubernetes.forbid("serviceaccounts/agent");
    let executor = in_cluster(&kubernetes, directory.path(), &registry.host);
    assert!(message(&executor.node(&of(&reference)).await).contains("401 Unauthorized"));
    wait_for_log(&executor, "only the pod's own pull secrets are used").await;

    kubernetes.forbid("pods/agent-pod");
    let executor = in_cluster(&kubernetes, directory.path(), &registry.host);
    assert!(message(&executor.node(&of(&reference)).await).contains("401 Unauthorized"));
    wait_for_log(&executor, "the pod's own pull secrets are not used").await;
}

/// Waits until the log contains a text. Log lines arrive a little later than replies.
async fn wait_for_log(executor: &Executor, text: &str) {
    wasm_workflow_integration::eventually(text, async || executor.log().contains(text)).await;
}

/// One registry demands a password for the token server of another host. Another registry redirects
/// a request that carries a password to another host. The other host never gets a password.
#[tokio::test]
async fn passwords_are_not_sent_to_other_hosts() {
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let other_host = {
        let seen = Arc::clone(&seen);
        serve(move |headers| {
            seen.lock().unwrap().push(headers);
            (
                StatusCode::OK,
                HeaderMap::new(),
                r#"{"token":"t"}"#.to_owned(),
            )
        })
        .await
    };
    let challenge = format!(
        "Bearer realm=\"http://localhost:{}/token\",service=\"s\"",
        other_host.rsplit_once(':').unwrap().1
    );
    let registry = serve(move |_| {
        (
            StatusCode::UNAUTHORIZED,
            HeaderMap::from_iter([(
                axum::http::header::WWW_AUTHENTICATE,
                challenge.parse().unwrap(),
            )]),
            String::new(),
        )
    })
    .await;
    let right = docker_config(&[(&registry, "user:hunter2")]);
    let node = with_docker_config(&[&registry, "localhost"], &right)
        .node(&of(&format!("{registry}/m:1")))
        .await;
    assert_eq!(node["phase"], "Error");
    assert!(
        message(&node).contains("which is not known to belong to the registry"),
        "{node}"
    );
    assert!(message(&node).contains("sources.trustedRealms"), "{node}");
    assert!(
        seen.lock().unwrap().is_empty(),
        "no request reached the other host"
    );

    // A redirect of a request with a password: the next host gets the request without the password.
    let location = format!("http://{other_host}/elsewhere");
    let registry = serve(move |headers: HeaderMap| {
        if headers.contains_key("authorization") {
            let location = (axum::http::header::LOCATION, location.parse().unwrap());
            return (
                StatusCode::TEMPORARY_REDIRECT,
                HeaderMap::from_iter([location]),
                String::new(),
            );
        }
        let basic = (
            axum::http::header::WWW_AUTHENTICATE,
            "Basic realm=\"x\"".parse().unwrap(),
        );
        (
            StatusCode::UNAUTHORIZED,
            HeaderMap::from_iter([basic]),
            String::new(),
        )
    })
    .await;
    let right = docker_config(&[(&registry, "user:hunter2")]);
    with_docker_config(&[&registry, &other_host], &right)
        .node(&of(&format!("{registry}/m:1")))
        .await;
    let seen = seen.lock().unwrap();
    assert!(
        !seen.is_empty()
            && seen
                .iter()
                .all(|headers| !headers.contains_key("authorization")),
        "{seen:?}"
    );
}

type Reply = (StatusCode, HeaderMap, String);

/// Starts a server that answers every request with the same function. Returns its address.
async fn serve(answer: impl Fn(HeaderMap) -> Reply + Clone + Send + Sync + 'static) -> String {
    let router = Router::new().route(
        "/{*path}",
        any(async move |headers: HeaderMap| answer(headers)),
    );
    wasm_workflow_integration::serve(router).await
}
