//! Registries that want to know who asks: with a password, with a token, and with tricks.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::registry::{Access, PASSWORD, Registry, USER};
use wasm_workflow_integration::token_server::{REFRESH_TOKEN, TokenServer};

use crate::message;

fn docker_config(entries: &[(&str, &str)]) -> Value {
    let auths = entries.iter().map(|(host, pair)| ((*host).to_owned(), json!({"auth": STANDARD.encode(pair)})));
    json!({"auths": auths.collect::<serde_json::Map<_, _>>()})
}

fn with_docker_config(hosts: &[&str], config: &Value) -> Executor {
    Executor::start_with(Options {
        flags: hosts.iter().flat_map(|host| ["--insecure-registry".to_owned(), (*host).to_owned()]).collect(),
        env: vec![("DOCKER_AUTH_CONFIG".to_owned(), config.to_string())],
        ..Options::default()
    })
}

fn of(reference: &str) -> Value {
    json!({"name": "t", "plugin": {"wasm": {"module": {"oci": reference}}}})
}

async fn push_noop(registry: &Registry) -> String {
    registry.push_module("m:1", &std::fs::read(guests::guest("noop-command")).unwrap()).await;
    format!("{}/m:1", registry.host)
}

#[tokio::test]
async fn a_password_the_wrong_one_and_none() {
    let registry = Registry::start_with(Access::Password);
    let reference = push_noop(&registry).await;
    let host = registry.host.as_str();
    let right = format!("{USER}:{PASSWORD}");
    let node = with_docker_config(&[host], &docker_config(&[(host, &right)])).node(&of(&reference)).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let executor = with_docker_config(&[host], &docker_config(&[(host, "user:hunter2")]));
    let node = executor.node(&of(&reference)).await;
    assert_eq!(node["phase"], "Error");
    assert!(message(&node).contains("with the credentials of DOCKER_AUTH_CONFIG"), "{node}");
    assert!(message(&node).contains("refuses tag `1` of `m` (401 Unauthorized)"), "{node}");
    assert!(!executor.log().contains("hunter2") && !executor.log().contains(&STANDARD.encode("user:hunter2")));
    let node = with_docker_config(&[host], &docker_config(&[("127.0.0.1:1", &right)])).node(&of(&reference)).await;
    assert!(
        message(&node).contains("It may not exist, or need credentials: name a Secret under `pull.secrets`"),
        "{node}"
    );
    // The more specific key is tried first, and the next when it is refused.
    let two = docker_config(&[(&format!("{host}/m"), "user:old"), (host, &right)]);
    assert_eq!(with_docker_config(&[host], &two).node(&of(&reference)).await["phase"], "Succeeded");
}

#[tokio::test]
async fn tokens_for_passwords_and_for_refresh_tokens() {
    let server = TokenServer::start().await;
    let registry = Registry::start_with(Access::Token(&server));
    let reference = push_noop(&registry).await;
    let host = registry.host.as_str();
    let realm = server.realm.strip_prefix("http://").unwrap().strip_suffix("/token").unwrap();
    let pushed = server.asked().len();
    let node = with_docker_config(&[host, realm], &json!({})).node(&of(&reference)).await;
    assert!(message(&node).contains("refuses"), "{node}");
    let right = docker_config(&[(host, &format!("{USER}:{PASSWORD}"))]);
    assert_eq!(with_docker_config(&[host, realm], &right).node(&of(&reference)).await["phase"], "Succeeded");
    let identity = json!({"auths": {host: {"identitytoken": REFRESH_TOKEN}}});
    assert_eq!(with_docker_config(&[host, realm], &identity).node(&of(&reference)).await["phase"], "Succeeded");
    let asked = server.asked().split_off(pushed);
    let count = |how: &str| asked.iter().filter(|asked| **asked == format!("{how} repository:m:pull")).count();
    assert_eq!((count("password"), count("refresh")), (1, 1), "one token for all three requests: {asked:?}");
    let wrong = docker_config(&[(host, "user:hunter2")]);
    let node = with_docker_config(&[host, realm], &wrong).node(&of(&reference)).await;
    assert!(message(&node).contains("with the credentials of DOCKER_AUTH_CONFIG"), "never anonymously: {node}");
}

#[tokio::test]
async fn credentials_in_the_operators_document() {
    let registry = Registry::start_with(Access::Password);
    let reference = push_noop(&registry).await;
    let host = &registry.host;
    let credentials = json!([{"host": host, "username": USER, "passwordFrom": {"env": "REGISTRY_PASSWORD"}}]);
    let start = |credentials: &Value| {
        Executor::start_with(Options {
            config: Some(json!({"sources": {"insecure": [host], "credentials": credentials}}).to_string()),
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
    assert_eq!(node["phase"], "Succeeded", "the second mirror has it: {node}");
}

/// A registry that wants its visitors' passwords sent elsewhere, and one that sends them on.
#[tokio::test]
async fn passwords_go_to_nobody_else() {
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let thief = {
        let seen = Arc::clone(&seen);
        serve(move |headers| {
            seen.lock().unwrap().push(headers);
            (StatusCode::OK, HeaderMap::new(), r#"{"token":"t"}"#.to_owned())
        })
        .await
    };
    let challenge =
        format!("Bearer realm=\"http://localhost:{}/token\",service=\"s\"", thief.rsplit_once(':').unwrap().1);
    let registry = serve(move |_| {
        (
            StatusCode::UNAUTHORIZED,
            HeaderMap::from_iter([(axum::http::header::WWW_AUTHENTICATE, challenge.parse().unwrap())]),
            String::new(),
        )
    })
    .await;
    let right = docker_config(&[(&registry, "user:hunter2")]);
    let node = with_docker_config(&[&registry, "localhost"], &right).node(&of(&format!("{registry}/m:1"))).await;
    assert_eq!(node["phase"], "Error");
    assert!(message(&node).contains("which is not known to belong to it"), "{node}");
    assert!(message(&node).contains("sources.trustedRealms"), "{node}");
    assert!(seen.lock().unwrap().is_empty(), "nothing was sent there");

    // A password that is asked for and then sent on: the next host gets the request without it.
    let location = format!("http://{thief}/elsewhere");
    let registry = serve(move |headers: HeaderMap| {
        if headers.contains_key("authorization") {
            let location = (axum::http::header::LOCATION, location.parse().unwrap());
            return (StatusCode::TEMPORARY_REDIRECT, HeaderMap::from_iter([location]), String::new());
        }
        let basic = (axum::http::header::WWW_AUTHENTICATE, "Basic realm=\"x\"".parse().unwrap());
        (StatusCode::UNAUTHORIZED, HeaderMap::from_iter([basic]), String::new())
    })
    .await;
    let right = docker_config(&[(&registry, "user:hunter2")]);
    with_docker_config(&[&registry, &thief], &right).node(&of(&format!("{registry}/m:1"))).await;
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|headers| !headers.contains_key("authorization")), "{seen:?}");
}

type Reply = (StatusCode, HeaderMap, String);

/// A server that answers everything alike.
async fn serve(answer: impl Fn(HeaderMap) -> Reply + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/{*path}", any(async move |headers: HeaderMap| answer(headers)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    host
}
